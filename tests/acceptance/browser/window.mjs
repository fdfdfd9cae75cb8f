// The built pages, served from an origin of their own, in a headless browser.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { after, before } from "node:test";
import { chromium } from "playwright-core";
import { client, Course } from "./course.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const PATIENCE_MS = 30_000;

let browser;
let server;

const html = (script) =>
  `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="root"></div><script src="${script}"></script>`;

async function serve(request, response) {
  const path = new URL(request.url, "http://localhost").pathname;
  const script = /^\/(\w+\.js)$/.exec(path);
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? await readFile(`www/${script[1]}`) : html(`${path}.js`));
}

before(async () => {
  server = createServer(serve);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: FLAGS,
    env: { ...process.env, HOME: tmpdir() },
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** A way to the server that a test can cut. */
export class Cable {
  sockets = new Set();

  static async lay() {
    const self = new Cable();
    const { hostname, port } = new URL(process.env.TRELLIS_URL);
    self.server = createTcpServer((near) => {
      const far = connect(port, hostname);
      for (const [from, to] of [[near, far], [far, near]]) {
        self.sockets.add(from);
        from.pipe(to);
        from.on("error", () => {}).on("close", () => to.destroy());
      }
    });
    await new Promise((resolve) => self.server.listen(0, "127.0.0.1", resolve));
    self.url = `http://127.0.0.1:${self.server.address().port}`;
    return self;
  }

  /** Break every connection; new ones can be made. */
  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  remove() {
    this.server.close();
    this.cut();
  }
}

/** A window of the browser, as a human sees and uses it. */
export class Window {
  static async open(name, { course = new Course(), context, ...given } = {}) {
    context ??= await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const self = new Window(page, course);
    page.on("pageerror", (error) => self.errors.push(error));
    const asked = new URLSearchParams({ api: process.env.TRELLIS_URL, folder: course.folder, ...given });
    await page.goto(`http://127.0.0.1:${server.address().port}/${name}?${asked}`);
    return self;
  }

  /** What the page threw and nobody caught. */
  errors = [];

  constructor(page, course) {
    this.page = page;
    this.course = course;
    this.context = page.context();
  }

  get threadId() {
    return new URL(this.page.url()).searchParams.get("thread");
  }

  /** Wait until these are the statuses of the thread's runs, the newest first. */
  async hasRuns(...statuses) {
    const wanted = statuses.join();
    for (const end = Date.now() + PATIENCE_MS; ; ) {
      const found = (await client.runs.list(this.threadId)).map((run) => run.status).join();
      if (found === wanted) return;
      if (Date.now() > end) throw new Error(`wanted runs: ${wanted}, found: ${found}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async say(text) {
    await this.page.getByLabel("say").fill(text);
    await this.press("Send");
  }

  async press(button) {
    await this.page.getByRole("button", { name: button }).last().click();
  }

  /** Say it, after what was said before; the answer is held after its first word. */
  async saySlowly(text, ...before) {
    await this.say(`slowly ${text}`);
    await this.course.waitUntilNotes(`>slowly ${text}`);
    await this.sees(...before, `slowly ${text}`, "Heard:");
  }

  /** Let the answer go on that is held. */
  release(text) {
    this.course.open(`slowly ${text}`);
  }

  /** Wait until these are the messages, no more and no less. */
  async sees(...texts) {
    await this.until((wanted) => {
      const shown = [...document.querySelectorAll("ol > li > p")].map((each) => each.textContent);
      return JSON.stringify(shown) === JSON.stringify(wanted);
    }, texts);
  }

  /** Wait until these kinds of events were heard. */
  async hears(...kinds) {
    await this.until((wanted) => {
      const heard = [...document.querySelectorAll("ul > li")].map((each) => each.textContent);
      return JSON.stringify(heard.sort()) === JSON.stringify(wanted);
    }, kinds);
  }

  async isBusy(busy = true) {
    await this.until((wanted) => document.querySelector("main").dataset.busy === wanted, String(busy));
  }

  /** Wait until so many submissions wait in the page. */
  async waits(count) {
    await this.until((wanted) => document.querySelector("output").textContent === wanted, String(count));
  }

  async isAsked(question) {
    await this.page.locator("section > p", { hasText: question }).waitFor();
  }

  async isAskedNothing() {
    await this.page.locator("section").waitFor({ state: "detached" });
  }

  async isTold(error) {
    await this.page.getByRole("alert").filter({ hasText: error }).waitFor();
  }

  /** Edit the nth thing that the human said. */
  async edit(index, text) {
    const message = this.page.locator("li.human").nth(index);
    await message.getByLabel("edit").fill(text);
    await message.getByRole("button", { name: "Save" }).click();
  }

  async until(condition, given) {
    try {
      await this.page.waitForFunction(condition, given);
    } catch (error) {
      const shown = await this.page.locator("main").innerText();
      throw new Error(`${error.message}\nwanted ${JSON.stringify(given)}, the page shows:\n${shown}\n${this.errors}`);
    }
  }
}
