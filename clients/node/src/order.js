// The order of the states of the token set, which answers never go back in.
//
// A state is (epoch, generation, revocations): anything with these three fields.

export const NOTHING_SEEN = { epoch: 0, generation: 0, revocations: 0 };

export function isBefore(left, right) {
  if (left.epoch !== right.epoch) return left.epoch < right.epoch;
  if (left.generation !== right.generation) return left.generation < right.generation;
  return left.revocations < right.revocations;
}
