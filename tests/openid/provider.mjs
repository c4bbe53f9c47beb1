// A provider of logins for tests: oidc-provider, which is certified by the OpenID Foundation. Its own pages, its own
// cryptography. `node provider.mjs CONFIG MODULES`: CONFIG is a JSON file; MODULES the folder of node_modules.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const config = JSON.parse(readFileSync(process.argv[2]));
const entry = createRequire(join(process.argv[3], 'node_modules', 'x.js')).resolve('oidc-provider');
const { Provider } = await import(pathToFileURL(entry));
// read at each login: tests change people's groups
const account = (login) => JSON.parse(readFileSync(config.accounts))[login];

const provider = new Provider(config.issuer, {
  clients: config.clients,
  jwks: { keys: config.keys },
  cookies: { keys: ['for tests alone'] },
  claims: {
    openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'],
  },
  features: {
    deviceFlow: { enabled: config.device }, devInteractions: { enabled: true },
    userinfo: { enabled: true },
  },
  findAccount: (ctx, login) => account(login)
    && { accountId: login, claims: () => ({ sub: login, ...account(login) }) },
  // the pages of a login belong to http://127.0.0.1 here: a browser's cookies are not bound to a port
  ttl: { DeviceCode: 600 },
});
// one after the other: of two keys the first signs
provider.listen(config.port, '127.0.0.1', () => console.log('listening'));
