// GraphQL over graphql-transport-ws. It refuses the token "wrong", and pings, by a message and not only by a control
// frame, every 0.2 s.
//
//   subscription { ticks { number pings pongs } }   every 50 ms, up to (to: N); the pings that were heard on this line, and
//                                                   the answers to its own
//   subscription { close(code: 4400) }              closes the line with this code, after a result
//   { withdrawn }                                   how many subscriptions were ended by clients with the token of this one
'use strict';

const fs = require('fs');
const http = require('http');
const { parseArgs } = require('util');
const { buildSchema } = require('graphql');
const { useServer } = require('graphql-ws/use/ws');
const { WebSocketServer } = require('ws');

const { values: given } = parseArgs({ options: { 'port-file': { type: 'string' } } });

const schema = buildSchema(`
  type Tick { number: Int!, pings: Int!, pongs: Int! }
  type Query { withdrawn: Int! }
  type Subscription { ticks(to: Int): Tick!, close(code: Int!): Int! }
`);

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// By token: how many subscriptions were ended.
const withdrawn = new Map();

const roots = {
  query: {
    withdrawn: (_, { connectionParams }) => withdrawn.get(connectionParams.token) ?? 0,
  },
  subscription: {
    async* ticks({ to }, { extra }) {
      for (let number = 1; number <= (to ?? Infinity); number++) {
        yield { ticks: { number, pings: extra.pings, pongs: extra.pongs } };
        await pause(50);
      }
    },
    async* close({ code }, { extra }) {
      yield { close: code };
      extra.socket.close(code, 'as you wish');
    },
  },
};

const server = http.createServer();
useServer({
  schema,
  roots,
  context: (line) => line,
  onConnect({ connectionParams: { token }, extra }) {
    extra.pings = 0;
    extra.pongs = 0;
    const ping = setInterval(() => extra.socket.send('{"type":"ping"}'), 200);
    extra.socket.on('close', () => clearInterval(ping));
    extra.socket.on('message', (data) => {
      if (JSON.parse(data).type === 'complete') withdrawn.set(token, (withdrawn.get(token) ?? 0) + 1);
    });
    return token !== 'wrong';
  },
  onPing({ extra }) { extra.pings += 1; },
  onPong({ extra }) { extra.pongs += 1; },
}, new WebSocketServer({ server }));
server.listen(0, '127.0.0.1', () => {
  // Renamed into place, so that nobody reads half of it.
  const file = given['port-file'];
  fs.writeFileSync(`${file}.new`, `${server.address().port}\n`);
  fs.renameSync(`${file}.new`, file);
});
