// npm's client graphql-ws in front of a shop: operations, reconnects, and the codes with which the server closes.
//   SOUK_ADDRESS=127.0.0.1:4000 SOUK_ADMIN_TOKEN=... node --test sockets.test.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { link } from './link.mjs';
import * as shop from './shop.mjs';

/** A client of the shop, its `connected` and `closed` events in `seen`. */
function connect(options = {}) {
  const seen = { connected: 0, closed: [] };
  const client = createClient({
    url: `ws://${shop.address}/graphql`,
    webSocketImpl: WebSocket,
    retryWait: async () => {},
    ...options,
  });
  client.on('connected', () => (seen.connected += 1));
  client.on('closed', (event) => seen.closed.push(event.code));
  return { client, seen };
}

function signedIn(token) {
  return { connectionParams: { Authorization: `Bearer ${token}` } };
}

/** The only result of a query or mutation. */
async function once(client, query, variables = {}) {
  const results = [];
  for await (const result of client.iterate({ query, variables })) results.push(result);
  assert.equal(results.length, 1);
  return results[0];
}

/** What `next` gives: `act` is done again until it does, because a change before a subscription stands is not told. */
async function caused(next, act) {
  let found;
  next.then((value) => (found = value));
  while (!found) {
    await act();
    await Promise.race([next, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
  return found.value;
}

/** How a connection ends on which `disturb` is called with its raw socket at `event`: the close code that its operation gets. */
async function closeCode(event, disturb, options = {}) {
  const { client } = connect({ retryAttempts: 0, lazyCloseTimeout: 1000, ...options });
  client.on(event, disturb);
  const ended = new Promise((resolve) =>
    client.subscribe(
      { query: 'subscription { orderUpdates { cursor } }' },
      { next: () => {}, error: resolve, complete: () => resolve('complete') },
    ),
  );
  const end = await ended;
  await client.dispose();
  return end.code;
}

test('queries and mutations are answered on one socket, which closes normally after the last', async () => {
  const { accessToken } = await shop.customer();
  const { client, seen } = connect({ ...signedIn(accessToken), lazyCloseTimeout: 0 });
  const closed = new Promise((resolve) => client.on('closed', resolve));
  const rename = 'mutation($input: UserUpdateInput!) { userUpdate(input: $input) { user { name } userErrors { code } } }';
  const [me, renamed] = await Promise.all([
    once(client, '{ me { role } }'),
    once(client, rename, { input: { name: 'Another Name' } }),
  ]);
  assert.deepEqual(me, { data: { me: { role: 'CUSTOMER' } } });
  assert.equal(renamed.data.userUpdate.user.name, 'Another Name');
  await closed;
  assert.deepEqual(seen, { connected: 1, closed: [1000] });
});

test('what is refused before execution is an error of its operation and the socket goes on', async () => {
  const { client, seen } = connect({ lazy: false });
  for (const [query, code] of [
    ['{ nonsense }', 'GRAPHQL_VALIDATION_FAILED'],
    ['{', 'GRAPHQL_PARSE_FAILED'],
    ['subscription { orderUpdates { cursor } }', 'UNAUTHENTICATED'],
  ]) {
    await assert.rejects(
      async () => { for await (const _ of client.iterate({ query })); },
      (errors) => errors[0].extensions.code === code,
      query,
    );
  }
  assert.deepEqual(await once(client, '{ me { id } }'), { data: { me: null } });
  assert.equal(seen.closed.length, 0);
  await client.dispose();
});

test('a subscription follows an order to its verdict and completes when the client wants no more', async () => {
  const { accessToken } = await shop.customer();
  const productId = await shop.product(5);
  const { client } = connect(signedIn(accessToken));
  const id = await shop.order(accessToken, productId);
  const query = 'subscription($id: ID!) { orderUpdated(id: $id, after: 0) { order { status } event { sequence status } } }';
  const statuses = [];
  for await (const { data, errors } of client.iterate({ query, variables: { id } })) {
    assert.equal(errors, undefined);
    statuses.push(data.orderUpdated.event.status);
    if (statuses.length === 2) break;
  }
  assert.deepEqual(statuses, ['PENDING', 'CONFIRMED']);
  await client.dispose();
});

test('a client whose connection is cut comes back by itself and its subscription goes on', async () => {
  const productId = await shop.product(10);
  const way = await link(shop.address);
  const { client, seen } = connect({ url: `ws://${way.address}/graphql`, retryAttempts: 20 });
  const query = 'subscription($ids: [ID!]!) { stockChanged(productIds: $ids) { available } }';
  const updates = client.iterate({ query, variables: { ids: [productId] } });
  const adjust = () => shop.adjustStock(productId, 1);
  assert.ok((await caused(updates.next(), adjust)).data.stockChanged.available > 10);
  for (const connections of [2, 3]) {
    const back = new Promise((resolve) => {
      const off = client.on('connected', () => { off(); resolve(); });
    });
    way.cut();
    await back;
    assert.equal(seen.connected, connections);
    assert.ok((await caused(updates.next(), adjust)).data.stockChanged.available > 10);
  }
  assert.deepEqual(seen.closed, [1006, 1006]);
  await updates.return();
  await client.dispose();
  way.close();
});

test('a session that ends closes 4403, and the client comes back with another token', async () => {
  const [first, second] = [await shop.customer(), await shop.customer()];
  const tokens = [first.accessToken, second.accessToken];
  const { client, seen } = connect({
    connectionParams: () => ({ Authorization: `Bearer ${tokens.shift()}` }),
    retryAttempts: 3,
  });
  const up = new Promise((resolve) => client.on('connected', resolve));
  const updates = client.iterate({ query: 'subscription { orderUpdates { order { status } } }' });
  const update = updates.next();
  await up;
  const back = new Promise((resolve) => client.on('connected', resolve));
  await shop.ask(
    'mutation($token: String!) { signOut(refreshToken: $token) { __typename } }',
    { token: first.refreshToken },
    first.accessToken,
  );
  await back;
  assert.deepEqual(seen, { connected: 2, closed: [4403] });
  const productId = await shop.product(100);
  const { data } = await caused(update, () => shop.order(second.accessToken, productId));
  assert.equal(data.orderUpdates.order.status, 'PENDING');
  await updates.return();
  await client.dispose();
});

test('a bad token closes 4403', async () => {
  assert.equal(await closeCode('connected', () => {}, signedIn('nonsense')), 4403);
});

test('an invalid message closes 4400', async () => {
  const { accessToken } = await shop.customer();
  assert.equal(await closeCode('connected', (socket) => socket.send('nonsense'), signedIn(accessToken)), 4400);
});

test('an operation before the acknowledgement closes 4401', async () => {
  const early = JSON.stringify({ type: 'subscribe', id: '1', payload: { query: '{ me { id } }' } });
  assert.equal(await closeCode('opened', (socket) => socket.send(early)), 4401);
});

test('another subprotocol closes 4406', async () => {
  class WithoutSubprotocol extends WebSocket {
    constructor(url) {
      super(url);
    }
  }
  assert.equal(await closeCode('opened', () => {}, { webSocketImpl: WithoutSubprotocol }), 4406);
});

test('a client that does not initialise is closed 4408', async () => {
  const never = { connectionParams: () => new Promise(() => {}) };
  assert.equal(await closeCode('opened', () => {}, never), 4408);
});

test('an id that is in use closes 4409', async () => {
  const { accessToken } = await shop.customer();
  const options = { ...signedIn(accessToken), generateID: () => 'same' };
  const { client } = connect({ ...options, retryAttempts: 0 });
  const query = 'subscription { orderUpdates { cursor } }';
  const ends = [1, 2].map(() => new Promise((resolve) =>
    client.subscribe({ query }, { next: () => {}, error: resolve, complete: () => resolve({}) })));
  assert.deepEqual((await Promise.all(ends)).map((end) => end.code), [4409, 4409]);
  await client.dispose();
});

test('a second initialisation closes 4429', async () => {
  const again = JSON.stringify({ type: 'connection_init' });
  const { accessToken } = await shop.customer();
  assert.equal(await closeCode('connected', (socket) => socket.send(again), signedIn(accessToken)), 4429);
});
