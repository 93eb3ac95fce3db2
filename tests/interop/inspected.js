// A program to inspect, and its keeper, who starts it again on the same port when it has died; the URL is another one then.
// It prints ["line",N] every 100 ms. `die()` is its end, and `url()` says where its inspector is.
'use strict';

const fs = require('fs');
const inspector = require('inspector');
const { fork } = require('child_process');
const { parseArgs } = require('util');

function program() {
  process.on('disconnect', () => process.exit());
  globalThis.url = () => inspector.url();
  // Left to itself, it would wait for whoever inspects it.
  globalThis.die = () => process.send({ die: true });
  // None where another has taken the port.
  if (!inspector.url()) process.exit();
  process.send({ port: new URL(inspector.url()).port });
  let lines = 0;
  setInterval(() => {
    lines += 1;
    console.log('line', lines);
  }, 100);
}

function keep(file, port) {
  const kept = fork(__filename, { execArgv: [`--inspect=127.0.0.1:${port}`], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  let at = port;
  kept.on('message', (told) => {
    if (told.die) return kept.kill('SIGKILL');
    at = told.port;
    // Renamed into place, so that nobody reads half of it.
    fs.writeFileSync(`${file}.new`, `${at}\n`);
    fs.renameSync(`${file}.new`, file);
  });
  kept.on('exit', () => keep(file, at));
}

if (process.send) {
  program();
} else {
  const { values: given } = parseArgs({ options: { 'port-file': { type: 'string' } } });
  keep(given['port-file'], 0);
}
