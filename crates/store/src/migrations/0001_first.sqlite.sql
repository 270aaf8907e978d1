-- Version 1. Ids are 16 bytes (UUIDv7, so they sort by time); times are milliseconds since 1970; JSON is text.

CREATE TABLE owners (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE conversations (
    id BLOB NOT NULL PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES owners (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    title_is_auto BOOLEAN NOT NULL,
    model TEXT,
    settings TEXT NOT NULL,
    active_leaf_id BLOB,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX conversations_recent ON conversations (owner_id, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE messages (
    id BLOB NOT NULL PRIMARY KEY,
    owner_id BLOB NOT NULL REFERENCES owners (id) ON DELETE CASCADE,
    conversation_id BLOB NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent_id BLOB REFERENCES messages (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    status TEXT NOT NULL,
    model TEXT,
    receipt TEXT,
    error TEXT,
    client_id BLOB,
    last_seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE INDEX messages_of_conversation ON messages (conversation_id, id);
CREATE INDEX messages_children ON messages (parent_id);
CREATE INDEX messages_running ON messages (status) WHERE status = 'running';
CREATE INDEX messages_deleted ON messages (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE UNIQUE INDEX messages_client_id ON messages (owner_id, client_id) WHERE client_id IS NOT NULL;

-- kind: text, reasoning, file; data: what the kind has besides its text.
CREATE TABLE parts (
    message_id BLOB NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    idx BIGINT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    data TEXT,
    PRIMARY KEY (message_id, idx)
) WITHOUT ROWID;

-- What a running answer has said beyond its parts (a continued answer has some). When it ends, its parts are written
-- and its events removed.
CREATE TABLE events (
    message_id BLOB NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (message_id, seq)
) WITHOUT ROWID;

-- One row for each title (message_id is null) and each message: its text, normalised for search. The grams of the row
-- (see grams.rs) stand in search_grams under the same rowid.
CREATE TABLE search_docs (
    id INTEGER NOT NULL PRIMARY KEY,
    owner_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    message_id BLOB REFERENCES messages (id) ON DELETE CASCADE,
    body TEXT NOT NULL
);
CREATE INDEX search_docs_conversation ON search_docs (conversation_id, message_id);
CREATE INDEX search_docs_message ON search_docs (message_id);
CREATE VIRTUAL TABLE search_grams USING fts5 (grams, content = '', contentless_delete = 1, detail = none, tokenize = ascii);
CREATE TRIGGER search_docs_delete AFTER DELETE ON search_docs BEGIN
    DELETE FROM search_grams WHERE rowid = old.id;
END;

CREATE TABLE key_values (
    key TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
);
