// Hold the steps of the test graphs where a test wants them, and read the trace they leave.

import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@langchain/langgraph-sdk";

export const client = new Client({ apiUrl: process.env.TRELLIS_URL });

export const all = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
};

export const names = (parts) => parts.map((part) => part.event);

export const newThread = async () => (await client.threads.create()).thread_id;

export class Course {
  folder = mkdtempSync(join(process.env.COURSE, "course-"));

  input(...hold) {
    return { folder: this.folder, hold };
  }

  open(name) {
    writeFileSync(join(this.folder, name), "");
  }

  async waitUntilNotes(line) {
    const journal = join(this.folder, "journal");
    const notes = () => (existsSync(journal) ? readFileSync(journal, "utf8").split("\n") : []);
    for (const end = Date.now() + 30_000; !notes().includes(line); ) {
      if (Date.now() > end) throw new Error(`waited in vain for the note ${line}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
