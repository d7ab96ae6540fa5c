export { Client } from "./client.js";
export { Unavailable } from "./errors.js";
export { Issuer, IssuerError } from "./issuer.js";
