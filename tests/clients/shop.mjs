// The shop under test, asked over HTTP. SOUK_ADDRESS is its host and port, SOUK_ADMIN_TOKEN the token of an admin.

export const address = process.env.SOUK_ADDRESS;
const admin = process.env.SOUK_ADMIN_TOKEN;
let made = 0;

export async function ask(query, variables = {}, token = undefined) {
  const response = await fetch(`http://${address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

/** A new customer: the access token and the refresh token. */
export async function customer() {
  made += 1;
  const input = { email: `npm-${process.pid}-${made}@test.example`, name: 'Npm Client', password: 'correct horse battery' };
  const query =
    'mutation($input: SignUpInput!) { signUp(input: $input) { session { accessToken refreshToken } userErrors { message } } }';
  return (await ask(query, { input })).signUp.session;
}

/** A new product with this many pieces: its id. */
export async function product(available) {
  made += 1;
  const input = {
    sku: `NPM-${process.pid}-${made}`,
    name: 'Npm Lamp',
    category: 'Tests',
    price: { minorUnits: 1250, currency: 'EUR' },
    available,
  };
  const query =
    'mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { message } } }';
  return (await ask(query, { input }, admin)).productCreate.product.id;
}

export async function adjustStock(productId, delta) {
  const query = `mutation($productId: ID!, $delta: Int!) {
    stockAdjust(productId: $productId, delta: $delta, reason: "test") { userErrors { message } } }`;
  await ask(query, { productId, delta }, admin);
}

/** An order of one piece, placed and not waited for: its id. */
export async function order(token, productId) {
  made += 1;
  const input = { idempotencyKey: `npm-${process.pid}-${made}`, lines: [{ productId, quantity: 1 }], waitMs: 0 };
  const query = 'mutation($input: OrderPlaceInput!) { orderPlace(input: $input) { order { id } userErrors { message } } }';
  return (await ask(query, { input }, token)).orderPlace.order.id;
}
