// An echo server on Node's ws. What a text message asks for is done; anything else comes back as it is.
//
//   close:CODE:REASON   closes the line; without a CODE, by a close frame with nothing in it
//   abort               ends the stream without a close frame
//   ping                pings, waits for the pong, then sends "pong"
//   frag:N              sends "0 1 2 … " in N fragments, with a ping halfway
//   flood:N             sends the texts 0 to N-1;  flood:N:SIZE  with spaces behind them, up to SIZE bytes
//   raw:HEX             writes these bytes, below the protocol
//   last-close:PATH     waits until the connection to PATH has ended, then sends CODE:REASON as they came from its client
//   extensions          sends what it has answered about extensions
//
// and the JSON heartbeat {"type":"ping",…} is answered with {"type":"pong"}. A request that is no upgrade gets a 426.
'use strict';

const fs = require('fs');
const http = require('http');
const https = require('https');
const { parseArgs } = require('util');
const { WebSocketServer } = require('ws');

const { values: given } = parseArgs({
  options: {
    'port-file': { type: 'string' }, // where to write the port, once there is one
    cert: { type: 'string' }, // a certificate, for TLS
    key: { type: 'string' }, // its key
    subprotocol: { type: 'string' },
    alone: { type: 'string' }, // whose messages are to be compressed each on its own: client or server
  },
});

// By path: what the client of a connection said at its end.
const ends = new Map();

function end(path) {
  if (!ends.has(path)) {
    let settle;
    const told = new Promise((resolve) => { settle = resolve; });
    ends.set(path, { told, settle });
  }
  return ends.get(path);
}

function cut(text) {
  const at = text.indexOf(':');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

const commands = {
  close(line, argument) {
    const [code, reason] = cut(argument);
    if (code) line.close(Number(code), reason); else line.close();
  },
  abort(line) {
    line.terminate();
  },
  ping(line) {
    line.once('pong', () => line.send('pong'));
    line.ping('interop');
  },
  frag(line, argument) {
    const count = Number(argument);
    for (let number = 0; number < count; number++) {
      if (number === Math.floor(count / 2)) line.ping();
      line.send(`${number} `, { fin: number === count - 1 });
    }
  },
  flood(line, argument) {
    const [count, size] = cut(argument).map(Number);
    for (let number = 0; number < count; number++) line.send(String(number).padEnd(size));
  },
  raw(line, argument) {
    line._socket.write(Buffer.from(argument, 'hex'));
  },
  'last-close'(line, argument) {
    end(argument).told.then((told) => line.send(told));
  },
  extensions(line) {
    line.send(line.answered);
  },
  '{"type"'(line) {
    line.send('{"type":"pong"}');
  },
};

function serve(line, request) {
  line.answered = request.answered;
  line.on('error', (error) => console.log(request.url, error.message));
  line.on('close', (code, reason) => end(request.url).settle(`${code}:${reason}`));
  line.on('message', (data, binary) => {
    const [command, argument] = binary ? [''] : cut(String(data.subarray(0, 1024)));
    if (Object.hasOwn(commands, command)) commands[command](line, argument);
    else line.send(data, { binary });
  });
}

function refuse(request, response) {
  response.writeHead(426, { 'Content-Type': 'text/plain' });
  response.end('Upgrade Required');
}

const server = given.cert
  ? https.createServer({ cert: fs.readFileSync(given.cert), key: fs.readFileSync(given.key) }, refuse)
  : http.createServer(refuse);
new WebSocketServer({
  server,
  maxPayload: 64 << 20,
  perMessageDeflate: {
    clientNoContextTakeover: given.alone === 'client' || undefined,
    serverNoContextTakeover: given.alone === 'server' || undefined,
  },
  handleProtocols: (offered) => (offered.has(given.subprotocol) ? given.subprotocol : false),
})
  .on('headers', (headers, request) => {
    const name = 'Sec-WebSocket-Extensions: ';
    request.answered = headers.find((header) => header.startsWith(name))?.slice(name.length) ?? '';
  })
  .on('connection', serve);
server.listen(0, '127.0.0.1', () => {
  // Renamed into place, so that nobody reads half of it.
  const file = given['port-file'];
  fs.writeFileSync(`${file}.new`, `${server.address().port}\n`);
  fs.renameSync(`${file}.new`, file);
});
