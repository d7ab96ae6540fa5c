// A real home with a real daemon.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { temporaryFolder } from "./folder.js";
import { program } from "./need.js";

/** This user may all. */
const RIGHTS = `[[right]]
users = [${process.getuid()}]
may = ["issue", "revoke", "read"]
kinds = ["*"]
audiences = ["*"]
scopes = ["*"]
`;

export class Daemon {
  #process = null;

  /** Makes a home in a folder of its own, and serves it. */
  static async start(t) {
    const daemon = new Daemon();
    const folder = temporaryFolder(t);
    daemon.home = path.join(folder, "home");
    daemon.socket = path.join(folder, "socket");
    daemon.#run("init", daemon.home, "--prefix", "acme");
    await daemon.serve();
    t.after(() => daemon.kill());
    return daemon;
  }

  async serve() {
    const args = ["serve", "--home", this.home, "--socket", this.socket];
    this.#process = spawn(program("adamant"), args, { stdio: "ignore" });
    await this.#until(() => canConnect(this.socket), "the daemon listens");
  }

  /** Lets the issuing service serve the same home, and gives its socket. */
  async serveIssuer(t) {
    const socket = path.join(path.dirname(this.socket), "issuer.sock");
    writeFileSync(path.join(this.home, "issuer.toml"), RIGHTS);
    const args = ["--home", this.home, "--socket", socket];
    const env = { ...process.env, ADAMANT_SOCKET: this.socket };
    const issuer = spawn(program("adamant-issuer"), args, { stdio: "ignore", env });
    t.after(() => issuer.kill("SIGKILL"));
    await this.#until(() => canConnect(socket), "the issuing service listens");
    return socket;
  }

  async kill() {
    if (this.#process === null) return;
    const daemon = this.#process;
    this.#process = null;
    const ended = once(daemon, "exit");
    daemon.kill("SIGKILL");
    await ended;
    rmSync(this.socket, { force: true });
  }

  /** Stops it in the middle of what it does. */
  async pause() {
    this.#process.kill("SIGSTOP");
    const status = `/proc/${this.#process.pid}/stat`;
    await this.#until(() => / T /.test(readFileSync(status, "utf8")), "the daemon has stopped");
  }

  /** Lets it go on after `pause`. */
  resume() {
    this.#process.kill("SIGCONT");
  }

  /** `{ token, id, event, generation }`. */
  issue(...args) {
    return JSON.parse(this.#run("issue", "--home", this.home, "--json", ...args));
  }

  revoke(id) {
    this.#run("revoke", id, "--home", this.home, "--reason", "other");
  }

  /** Waits until `client` is answered by `verdict` about `token`. */
  async answers(client, token, verdict, need) {
    let answer;
    await this.#until(async () => {
      answer = await client.verify(token, need);
      return answer.verdict === verdict;
    }, `the daemon answers ${verdict}`);
    return answer;
  }

  #run(...args) {
    return execFileSync(program("adamant"), args, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  async #until(holds, what) {
    const end = Date.now() + 10_000;
    while (!(await holds())) {
      if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
      await sleep(5);
    }
  }
}

function canConnect(socket) {
  return new Promise((resolve) => {
    const connection = net.connect(socket);
    connection.on("connect", () => connection.end(() => resolve(true)));
    connection.on("error", () => resolve(false));
  });
}
