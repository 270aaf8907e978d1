/**
 * A conversation's messages as a tree: an edit or a regeneration adds a sibling,
 * and the active leaf says which branch is read.
 */

export interface Node {
  id: string;
  parent_id: string | null;
}

export class MessageTree {
  readonly #parents = new Map<string, string | null>();
  readonly #children = new Map<string | null, string[]>();

  /** Nodes come in creation order; a node whose parent is missing counts as a root. */
  constructor(nodes: readonly Node[]) {
    for (const { id } of nodes) this.#parents.set(id, null);
    for (const { id, parent_id } of nodes) {
      const parent = parent_id !== null && this.#parents.has(parent_id) ? parent_id : null;
      this.#parents.set(id, parent);
      const siblings = this.#children.get(parent);
      if (siblings) siblings.push(id);
      else this.#children.set(parent, [id]);
    }
  }

  get size(): number {
    return this.#parents.size;
  }

  has(id: string): boolean {
    return this.#parents.has(id);
  }

  parent(id: string): string | null {
    return this.#parents.get(id) ?? null;
  }

  children(id: string | null): readonly string[] {
    return this.#children.get(id) ?? [];
  }

  /** All versions that stand at the place of `id`, oldest first, itself among them. */
  siblings(id: string): readonly string[] {
    return this.children(this.parent(id));
  }

  /** From the root down to `leaf`. A cycle, which a broken file could hold, ends the walk. */
  path(leaf: string | null): string[] {
    const path: string[] = [];
    const seen = new Set<string>();
    for (let id = leaf; id !== null && this.has(id) && !seen.has(id); id = this.parent(id)) {
      seen.add(id);
      path.push(id);
    }
    return path.reverse();
  }

  /** The newest end of the branch that begins at `id`. */
  leafBelow(id: string): string {
    let leaf = id;
    for (
      let next = this.children(leaf).at(-1);
      next !== undefined;
      next = this.children(leaf).at(-1)
    ) {
      leaf = next;
    }
    return leaf;
  }

  /** The newest leaf of all, for a conversation that names none. */
  newestLeaf(): string | null {
    const root = this.children(null).at(-1);
    return root === undefined ? null : this.leafBelow(root);
  }
}
