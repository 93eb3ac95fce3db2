// Socket.IO, which keeps sessions. It wants the token "secret", pings every 0.2 s, and sends everybody ["tick",N] every
// 50 ms, and each after each answered ping ["beat",N]. A client may ask it for these:
//
//   ["hello",NAME]   answered by ["hello NAME"]; then it asks ["well?"], and sends ["well",ANSWER] with the answer
//   ["forget",NAME]  the session is forgotten, and the line cut once
//   ["mute",NAME]    it pings no more on this line, and sends on
//   ["leave",NAME]   it ends the session
'use strict';

const fs = require('fs');
const http = require('http');
const { parseArgs } = require('util');
const { Server } = require('socket.io');

const { values: given } = parseArgs({ options: { 'port-file': { type: 'string' } } });

const server = http.createServer();
const io = new Server(server, {
  pingInterval: 200,
  pingTimeout: 1000,
  connectionStateRecovery: { maxDisconnectionDuration: 60000 },
});

// By name: who was forgotten already.
const forgotten = new Set();

io.use((socket, next) => {
  next(socket.handshake.auth.token === 'secret' ? undefined : new Error('not authorized'));
});

io.on('connection', (socket) => {
  let beats = 0;
  socket.conn.on('heartbeat', () => {
    beats += 1;
    socket.emit('beat', beats);
  });
  socket.on('hello', (name, answer) => {
    answer(`hello ${name}`);
    socket.emit('well?', (said) => socket.emit('well', said));
  });
  socket.on('forget', (name, answer) => {
    answer('so be it');
    if (forgotten.has(name)) return;
    forgotten.add(name);
    // What left by itself is not kept.
    const { conn } = socket;
    socket._onclose('client namespace disconnect');
    conn.transport.socket.terminate();
  });
  socket.on('mute', (name, answer) => {
    answer('so be it');
    clearTimeout(socket.conn.pingIntervalTimer);
    clearTimeout(socket.conn.pingTimeoutTimer);
  });
  socket.on('leave', () => socket.disconnect());
});

let ticks = 0;
setInterval(() => {
  ticks += 1;
  io.emit('tick', ticks);
}, 50);

server.listen(0, '127.0.0.1', () => {
  // Renamed into place, so that nobody reads half of it.
  const file = given['port-file'];
  fs.writeFileSync(`${file}.new`, `${server.address().port}\n`);
  fs.renameSync(`${file}.new`, file);
});
