// Loaded into NNI's Node processes before anything else (NODE_OPTIONS=--require): what NNI 3.0 has
// no settings for.
"use strict";
const net = require("net");

// NNI's portal has no password and listens on every interface. Here a server that names no address
// listens on the loopback interface alone.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...given) {
  const [first, second] = given;
  if (typeof first === "number" && typeof second !== "string") {
    given.splice(1, 0, "127.0.0.1");
  } else if (first !== null && typeof first === "object" && first.port !== undefined && !first.host) {
    given[0] = { ...first, host: "127.0.0.1" };
  }
  return listen.apply(this, given);
};

// The manager gives its tuner 10 seconds to start, which a busy machine exceeds; it has no other
// timer of that length.
const TUNER_START = 10000;
const later = global.setTimeout;
global.setTimeout = Object.assign(
  (callback, delay, ...rest) => later(callback, delay === TUNER_START ? 12 * delay : delay, ...rest),
  later,
);

// The manager runs in a process group of its own and would go on searching when the program that
// started it is killed.
if (process.env.NNI_ENDS_WITH_PARENT === String(process.ppid)) {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) {
      process.kill(process.pid, "SIGTERM");
    }
  }, 500).unref();
}

// NNI puts the images and the checkpoint below /tmp on the other machines and lets everybody read and
// replace them. They belong in the folder of our script there, which nobody else can enter.
const Module = require("module");
const load = Module._load;
Module._load = function (request, ...rest) {
  const found = load.call(this, request, ...rest);
  const executor = /(^|\/)shellExecutor(\.js)?$/.test(request) && found.ShellExecutor;
  if (executor && !executor.keepsToItsFolder) {
    executor.keepsToItsFolder = true;
    const initialize = executor.prototype.initialize;
    executor.prototype.initialize = async function (...given) {
      const result = await initialize.apply(this, given);
      this.tempPath = this.pythonPath || this.tempPath;
      return result;
    };
  }
  return found;
};
