-- The first schema. Times are microseconds since the Unix epoch, ids are 64-bit integers that
-- increase with time. Payload columns hold JSON, or `@n`, the payload kept in payloads.id = n.

CREATE TABLE workflow_versions (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    version     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    graph       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (name, version, fingerprint)
);

CREATE TABLE executions (
    id                INTEGER PRIMARY KEY,
    instance          TEXT NOT NULL,
    generation        INTEGER,           -- NULL while a large graph is being written
    workflow_version  INTEGER NOT NULL,
    status            TEXT NOT NULL,
    reason            TEXT,
    stop_cause        TEXT,
    failed_task       INTEGER,           -- the task that failed it
    open              INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    priority          INTEGER NOT NULL,
    start_at          INTEGER,
    deadline_at       INTEGER,
    grace_until       INTEGER,
    graph             TEXT,              -- its own graph, if it was built at run time
    input             TEXT,
    input_hash        TEXT NOT NULL,
    tags              TEXT,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,
    closed_at         INTEGER,
    changed_at        INTEGER NOT NULL,
    history_pruned_at INTEGER
);
-- The latest execution of an instance; one execution per instance and generation.
CREATE UNIQUE INDEX executions_instance ON executions (instance, generation);
-- Open executions, of one workflow version or of all.
CREATE INDEX executions_open ON executions (workflow_version, id) WHERE closed_at IS NULL;

CREATE TABLE task_executions (
    execution     INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    node          TEXT NOT NULL,
    status        TEXT NOT NULL,
    sub_status    TEXT,
    attempt       INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    crashes       INTEGER NOT NULL,
    crash_steps   INTEGER NOT NULL,
    worker        INTEGER,
    waiting       INTEGER NOT NULL,
    unmet         INTEGER NOT NULL,
    ready_at      INTEGER,
    wake_at       INTEGER,
    next_order    INTEGER, -- the place of the result, if it waits for this time alone
    wait          TEXT,
    version       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    closed_at     INTEGER,
    changed_at    INTEGER NOT NULL,
    queued_us     INTEGER NOT NULL,
    active_us     INTEGER NOT NULL,
    attempt_active_us INTEGER NOT NULL DEFAULT 0, -- of that, in the present attempt
    deferred_us   INTEGER NOT NULL,
    retry_wait_us INTEGER NOT NULL,
    input         TEXT,
    output        TEXT,
    changes       TEXT,
    checkpoint    TEXT,
    error         TEXT,
    progress      TEXT,
    PRIMARY KEY (execution, number)
) WITHOUT ROWID;
-- The tasks that a worker holds: recovery, shutdown.
CREATE INDEX task_executions_worker ON task_executions (worker) WHERE worker IS NOT NULL;

CREATE TABLE task_outbox (
    worker    INTEGER NOT NULL,          -- 0: anyone
    queue     INTEGER NOT NULL,
    rank      INTEGER NOT NULL,          -- minus the priority, so that the whole key ascends
    ready_at  INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    task      INTEGER NOT NULL,
    PRIMARY KEY (worker, queue, rank, ready_at, execution, task)
) WITHOUT ROWID;

CREATE TABLE execution_events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    execution   INTEGER NOT NULL,
    task        INTEGER NOT NULL,        -- 0: the execution itself
    n           INTEGER NOT NULL,
    type        INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    worker      INTEGER,
    attempt     INTEGER,
    epoch       INTEGER,
    actor       TEXT,
    from_status TEXT,
    to_status   TEXT NOT NULL,
    data        TEXT
);
-- The history of an execution or of one of its tasks; no event number twice.
CREATE UNIQUE INDEX execution_events_stream ON execution_events (execution, task, n);

CREATE TABLE steps (
    execution   INTEGER NOT NULL,
    task        INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    fingerprint TEXT,
    state       TEXT NOT NULL,
    ordinal     INTEGER NOT NULL,        -- order of ending, from 1; 0 while waiting
    due_at      INTEGER,
    result      TEXT,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (execution, task, number)
) WITHOUT ROWID;
-- What a task waits for; who waits for a signal.
CREATE INDEX steps_waiting ON steps (execution, task) WHERE state = 'waiting';

CREATE TABLE signals (
    instance       TEXT NOT NULL,
    name           TEXT NOT NULL,
    number         INTEGER NOT NULL,
    execution      INTEGER NOT NULL,     -- the one that was live, which alone may read it
    payload        TEXT NOT NULL,
    actor          TEXT,
    sent_at        INTEGER NOT NULL,
    read_execution INTEGER,
    read_task      INTEGER,
    read_operation INTEGER,
    PRIMARY KEY (instance, name, number)
) WITHOUT ROWID;
-- The unread part of a mailbox.
CREATE INDEX signals_unread ON signals (execution, name, number) WHERE read_execution IS NULL;
-- What an operation read.
CREATE INDEX signals_read ON signals (read_execution, read_task, read_operation) WHERE read_execution IS NOT NULL;

CREATE TABLE timers (
    due_at    INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    task      INTEGER NOT NULL,
    piece     INTEGER NOT NULL,
    PRIMARY KEY (due_at, kind, execution, task, piece)
) WITHOUT ROWID;

CREATE TABLE workers (
    id           INTEGER PRIMARY KEY,
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL,
    ended_at     INTEGER,
    queues       TEXT                    -- the workflow versions that it knows, as a list; NULL: it did not say
);

CREATE TABLE payloads (
    id   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
);
