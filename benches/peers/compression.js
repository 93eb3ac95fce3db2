// compression.js URL FILE: how many of the lines of FILE a second Node's ws sends and receives, compressed.
'use strict';

const fs = require('fs');
const WebSocket = require('ws');

const [url, file] = process.argv.slice(2);
const messages = fs.readFileSync(file, 'utf8').split('\n').map((line) => Buffer.from(line));
const options = { perMessageDeflate: { threshold: 0 } };

function rate(start) {
  return messages.length / (Number(process.hrtime.bigint() - start) / 1e9);
}

function send(then) {
  const line = new WebSocket(`${url}sink`, options);
  let start;
  line.on('open', () => {
    start = process.hrtime.bigint();
    for (const message of messages) line.send(message);
    line.send('?');
  });
  line.on('message', (count) => {
    if (Number(count) !== messages.length) throw new Error(`${count} of ${messages.length}`);
    console.log(rate(start));
    line.terminate();
    then();
  });
}

function receive() {
  const line = new WebSocket(`${url}replay`, options);
  let count = 0;
  let start;
  line.on('open', () => {
    start = process.hrtime.bigint();
    line.send('?');
  });
  line.on('message', (data) => {
    if (data.length !== messages[count].length) throw new Error(`message ${count}`);
    count += 1;
    if (count < messages.length) return;
    console.log(rate(start));
    line.terminate();
  });
}

send(receive);
