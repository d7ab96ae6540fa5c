// Middleware for Express, and for whatever else calls `(req, res, next)` with Node's own requests.

import { Gate } from "./gate.js";

export function requireToken(options = {}) {
  const gate = new Gate(options, (error) => console.error(error.message));
  return function requireToken(req, res, next) {
    const judged = gate.judge(req.rawHeaders, req).then(({ answer, refusal }) => {
      if (refusal !== undefined) return refuse(res, refusal);
      req.adamant = answer;
      next();
    });
    judged.catch(next);
  };
}

function refuse(res, { status, headers }) {
  res.writeHead(status, { ...headers, "Content-Length": 0 });
  res.end();
}
