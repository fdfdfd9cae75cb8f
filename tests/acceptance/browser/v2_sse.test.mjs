import { protocol } from "./protocol.mjs";

protocol("sse");
