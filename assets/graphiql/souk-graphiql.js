// Starts GraphiQL on this server's own API: POST /graphql, and graphql-transport-ws on the same path and host.
//
// What a sign-in answers is kept for this browser tab and sent with every further operation, unless the headers editor
// has an Authorization of its own. So the example tabs can be run from left to right without copying a token.
(function () {
  'use strict';

  const TOKEN_KEY = 'souk-graphiql-session';
  const path = '/graphql';
  const socketScheme = location.protocol === 'https:' ? 'wss:' : 'ws:';

  // ---- the session -----------------------------------------------------------------------------------------------

  function session() {
    try {
      return JSON.parse(sessionStorage.getItem(TOKEN_KEY));
    } catch {
      return null;
    }
  }

  function keepSession(value) {
    if (value) {
      sessionStorage.setItem(TOKEN_KEY, JSON.stringify(value));
    } else {
      sessionStorage.removeItem(TOKEN_KEY);
    }
    showSession();
  }

  function showSession() {
    const current = session();
    document.getElementById('session').hidden = !current;
    document.getElementById('session-user').textContent = current ? 'Signed in as ' + current.user : '';
  }

  // A payload with a session (signUp, signIn, tokenRefresh and so on), or the end of one.
  function noticeSession(answer) {
    for (const payload of Object.values((answer && answer.data) || {})) {
      if (payload && payload.session && payload.session.accessToken) {
        const user = payload.session.user || {};
        keepSession({
          token: payload.session.accessToken,
          refreshToken: payload.session.refreshToken,
          expiresAt: payload.session.expiresAt,
          user: user.name || user.email || 'this account',
        });
      } else if (payload && payload.signedOut) {
        keepSession(null);
      }
    }
    return answer;
  }

  // ---- the fetcher -----------------------------------------------------------------------------------------------

  const fetchPlainly = GraphiQL.createFetcher({
    url: path,
    subscriptionUrl: socketScheme + '//' + location.host + path,
    // Without it a plain answer comes as a plain value, which noticeSession can look into.
    enableIncrementalDelivery: false,
  });

  // Headers serve both ways: as such over HTTP, and as the payload of connection_init over the WebSocket.
  function withToken(headers) {
    const current = session();
    const given = headers || {};
    const own = Object.keys(given).some((name) => name.toLowerCase() === 'authorization');
    return current && !own ? { ...given, Authorization: 'Bearer ' + current.token } : given;
  }

  // One renewal at a time: a refresh token is good once.
  let renewal = null;

  // Goes on with the refresh token, or as nobody where there is none or it is refused.
  function renewSession() {
    renewal ??= renewed().finally(() => {
      renewal = null;
    });
    return renewal;
  }

  async function renewed() {
    const { refreshToken } = session() || {};
    if (!refreshToken) {
      keepSession(null);
      return;
    }
    const query = `mutation($refreshToken: String!) { tokenRefresh(refreshToken: $refreshToken) {
      session { accessToken refreshToken expiresAt user { name email } } } }`;
    const answer = await fetchPlainly({ query, variables: { refreshToken } }, { headers: {} });
    if (answer && answer.data && answer.data.tokenRefresh && answer.data.tokenRefresh.session) {
      noticeSession(answer);
    } else {
      keepSession(null);
    }
  }

  // A little early: the request takes time, and clocks differ. A socket says only by its end that a token is bad, so
  // that a token past its time is never shown.
  function isOver(current) {
    return Boolean(current && current.expiresAt) && Date.parse(current.expiresAt) - Date.now() < 10_000;
  }

  function isUnauthenticated(answer) {
    const errors = (answer && answer.errors) || [];
    return errors.some((error) => error.extensions && error.extensions.code === 'UNAUTHENTICATED');
  }

  async function fetcher(params, options) {
    const headers = (options && options.headers) || {};
    // The schema is everybody's: it must load whatever became of the session.
    if (params.operationName === 'IntrospectionQuery') {
      return fetchPlainly(params, options);
    }
    if (isOver(session())) {
      await renewSession();
    }
    const sent = withToken(headers);
    const shown = session();
    let answer = await fetchPlainly(params, { ...options, headers: sent });
    // The kept token was refused, not one of the headers editor. Nothing was executed: once more, with another or none.
    if (sent !== headers && isUnauthenticated(answer)) {
      const current = session();
      if (current && shown && current.token === shown.token) {
        await renewSession();
      }
      answer = await fetchPlainly(params, { ...options, headers: withToken(headers) });
    }
    return noticeSession(answer);
  }

  // ---- the examples ----------------------------------------------------------------------------------------------

  function json(value) {
    return JSON.stringify(value, null, 2);
  }

  function randomKey() {
    return 'graphiql-' + Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join('');
  }

  // GraphiQL shows no variables in the tab it opens with, so the first one has none.
  const tabs = [
    {
      query: `# 1. Browse. No sign-in is needed.
# Keep the id of something you like.
query BrowseProducts {
  products(
    first: 10
    where: { inStock: true }
    sort: NAME
  ) {
    totalCount
    nodes {
      id
      sku
      name
      category
      price { amount currency }
      available
    }
    pageInfo { hasNextPage endCursor }
  }
  categories { name productCount }
}
`,
    },
    {
      query: `# 2. Sign up, and the next time sign in.
# This page keeps the token for the other tabs.
mutation SignUp($email: String!, $name: String!, $password: String!) {
  signUp(input: { email: $email, name: $name, password: $password }) {
    session {
      accessToken
      refreshToken
      expiresAt
      user { id name email }
    }
    userErrors { code message field }
  }
}

mutation SignIn($email: String!, $password: String!) {
  signIn(input: { email: $email, password: $password }) {
    session {
      accessToken
      refreshToken
      expiresAt
      user { id name email role }
    }
    userErrors { code message field }
  }
}
`,
      variables: json({ email: 'shopper@example.com', name: 'Sam Shopper', password: 'a long enough password' }),
      operationName: 'SignUp',
    },
    {
      query: `# 3. Place an order. Put a product's id from tab 1
# into the variables. The same idempotencyKey gives
# the same order again. waitMs: 0 does not wait for
# the stock, so that tab 4 has something to see.
mutation PlaceOrder($input: OrderPlaceInput!) {
  orderPlace(input: $input) {
    replayed
    order {
      id
      number
      status
      total { amount currency }
      lines { name quantity total { amount } }
    }
    userErrors {
      code
      message
      field
      ... on InsufficientStockError { productId requested available }
      ... on RetryLaterError { retryAfterMs }
    }
  }
}
`,
      variables: json({
        input: { idempotencyKey: randomKey(), lines: [{ productId: 'PRODUCT_ID', quantity: 1 }], waitMs: 0 },
      }),
    },
    {
      query: `# 4. Watch an order. Put its id from tab 3 into the
# variables. after: 0 tells its whole story; without
# it only the latest event and what follows.
subscription WatchOrder($id: ID!, $after: Int) {
  orderUpdated(id: $id, after: $after) {
    cursor
    event { sequence status at note }
    order { number status version }
  }
}
`,
      variables: json({ id: 'ORDER_ID', after: 0 }),
    },
    {
      query: `# 5. Me and my orders.
query MyOrders {
  me {
    name
    role
    orders(first: 10) {
      totalCount
      nodes {
        id
        number
        status
        total { amount currency }
        timeline { sequence status at }
      }
    }
  }
}
`,
    },
  ];

  // ---- the page --------------------------------------------------------------------------------------------------

  document.getElementById('session-forget').addEventListener('click', () => keepSession(null));
  showSession();

  ReactDOM.createRoot(document.getElementById('graphiql')).render(
    React.createElement(GraphiQL, {
      fetcher,
      defaultTabs: tabs,
      defaultEditorToolsVisibility: 'variables',
      shouldPersistHeaders: false,
    }),
  );
})();
