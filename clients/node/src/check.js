// Options are checked where they are given.

/**
 * Refuses an object with a key that nobody reads, or with one that is there and is undefined: a
 * mistyped or unset requirement would else be one that is not checked.
 */
export function checkKeys(what, object, keys) {
  if (typeof object !== "object" || object === null)
    throw new TypeError(`the ${what} is no object`);
  for (const [key, value] of Object.entries(object)) {
    if (!keys.includes(key))
      throw new TypeError(`the ${what} has no ${key}: it has ${keys.join(", ")}`);
    if (value === undefined || value === null) {
      throw new TypeError(`${key} is ${value}: leave it out if that is what you mean`);
    }
  }
  return object;
}

export function checkTimeout(timeoutMs) {
  // The longest that a timer of Node can wait.
  if (!(timeoutMs > 0 && timeoutMs < 2 ** 31)) throw new RangeError("timeoutMs is above 0");
  return timeoutMs;
}
