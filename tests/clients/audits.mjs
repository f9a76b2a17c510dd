// Runs every audit of npm's graphql-http against a server: one line for each that is not ok, then the count.
//   node audits.mjs http://127.0.0.1:4000/graphql
import { serverAudits } from 'graphql-http';

const audits = serverAudits({ url: process.argv[2] });
let ok = 0;
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status === 'ok') ok += 1;
  else console.log(`${result.status} ${audit.id} ${audit.name}: ${result.reason}`);
}
console.log(`${ok} of ${audits.length} audits ok`);
