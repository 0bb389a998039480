// An SSH server on the loopback interface for tests: it runs commands as who started it.
// node ssh_server.js HOST_KEY CLIENT_PUBLIC_KEY SSH2_PACKAGE; it prints its port.
"use strict";
const fs = require("fs");
const { spawn } = require("child_process");
const [hostKey, clientKey, ssh2] = process.argv.slice(2);
const { Server, utils } = require(ssh2);
const allowed = utils.parseKey(fs.readFileSync(clientKey));

const server = new Server({ hostKeys: [fs.readFileSync(hostKey)] }, (client) => {
  client.on("authentication", (attempt) => {
    const same = attempt.method === "publickey" && attempt.key.data.equals(allowed.getPublicSSH());
    const signed = !attempt.signature
      || allowed.verify(attempt.blob, attempt.signature, attempt.hashAlgo) === true;
    return same && signed ? attempt.accept() : attempt.reject(["publickey"]);
  });
  client.on("error", () => {});
  client.on("ready", () => client.on("session", (accept) => {
    accept().on("exec", (acceptExec, _reject, info) => {
      const stream = acceptExec();
      const child = spawn("sh", ["-c", info.command]);
      stream.pipe(child.stdin);
      child.stdin.on("error", () => {});
      child.stdout.pipe(stream, { end: false });
      child.stderr.pipe(stream.stderr, { end: false });
      child.on("close", (code) => { stream.exit(code === null ? 1 : code); stream.end(); });
    });
  }));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
