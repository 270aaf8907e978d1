import { expect, test } from 'vitest';
import { MessageTree } from './tree';

const node = (id: string, parent_id: string | null) => ({ id, parent_id });
// u1 ─ a1 ─ u2 ─ a2
//    └ a1'     (regenerated)
// u1' ─ b1     (edited)
const tree = new MessageTree([
  node('u1', null),
  node('a1', 'u1'),
  node('u2', 'a1'),
  node('a2', 'u2'),
  node("a1'", 'u1'),
  node("u1'", null),
  node('b1', "u1'"),
]);

test('a path runs from the root to the leaf', () => {
  expect(tree.path('a2')).toEqual(['u1', 'a1', 'u2', 'a2']);
  expect(tree.path(null)).toEqual([]);
});

test('versions of a message are its siblings, at the root too', () => {
  expect(tree.siblings('a1')).toEqual(['a1', "a1'"]);
  expect(tree.siblings("u1'")).toEqual(['u1', "u1'"]);
});

test('choosing a version leads to the newest end below it', () => {
  expect(tree.leafBelow('a1')).toBe('a2');
  expect(tree.leafBelow("a1'")).toBe("a1'");
  expect(tree.newestLeaf()).toBe('b1');
});

test('a parent that is missing makes a root, and a cycle ends the walk', () => {
  expect(new MessageTree([node('x', 'gone')]).path('x')).toEqual(['x']);
  expect(new MessageTree([node('x', 'y'), node('y', 'x')]).path('x')).toEqual(['y', 'x']);
});
