-- Version 2: long work in processes of its own. `purpose` is JSON that only whoever ordered the job reads; `command` is a
-- JSON list of texts, what is run at the next start; `place` is where, since several servers may share a database.

CREATE TABLE jobs (
    id UUID NOT NULL PRIMARY KEY,
    owner_id UUID NOT NULL REFERENCES owners (id) ON DELETE CASCADE,
    place TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    command TEXT NOT NULL,
    status TEXT NOT NULL,
    wish TEXT,
    reason TEXT,
    exit_code BIGINT,
    n_starts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    started_at BIGINT,
    wished_at BIGINT,
    ended_at BIGINT
);
CREATE INDEX jobs_of_owner ON jobs (owner_id, id DESC);
CREATE INDEX jobs_going ON jobs (place, queued_at, id) WHERE status IN ('queued', 'running', 'ending');
