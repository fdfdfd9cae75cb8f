import { protocol } from "./protocol.mjs";

protocol("websocket");
