-- What pipelines did.  The columns are those of the rows in modyn/pipelines/ledger.py.

-- What a run is: configuration, datasets, seed; canonical JSON by name.
CREATE TABLE modyn.ledger_identity (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (pipeline, name)
);

-- How far the stream was followed; a row per run that has begun.  Every transaction of a ledger
-- locks this row and leaves its own id in it: who repeats one after a lost answer waits here for
-- the first attempt, and learns whether that was committed.
CREATE TABLE modyn.ledger_progress (
    pipeline integer PRIMARY KEY REFERENCES modyn.pipelines ON DELETE CASCADE,
    position bigint NOT NULL,
    trigger_state text NOT NULL,
    selection_state text NOT NULL,
    finished boolean NOT NULL,
    written text NOT NULL
);

CREATE TABLE modyn.ledger_transitions (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    trigger bigint NOT NULL,
    "first" bigint NOT NULL,
    position bigint NOT NULL,
    first_timestamp bigint,
    last_timestamp bigint,
    trained_until bigint,
    candidates_first bigint NOT NULL,
    candidates bigint NOT NULL,
    samples bigint NOT NULL,
    digest text NOT NULL,
    trigger_state text NOT NULL,
    selection_state text NOT NULL,
    PRIMARY KEY (pipeline, trigger)
);

CREATE TABLE modyn.ledger_trainings (
    pipeline integer NOT NULL,
    trigger bigint NOT NULL,
    model text,
    parent text,
    epochs bigint NOT NULL,
    batches bigint NOT NULL,
    samples bigint NOT NULL,
    final_loss double precision,
    losses text NOT NULL,
    PRIMARY KEY (pipeline, trigger),
    FOREIGN KEY (pipeline, trigger) REFERENCES modyn.ledger_transitions ON DELETE CASCADE
);

CREATE TABLE modyn.ledger_windows (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    dataset text NOT NULL,
    handler bigint NOT NULL,
    "start" bigint NOT NULL,
    "end" bigint NOT NULL,
    anchor bigint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (pipeline, dataset, handler, "start", "end", anchor)
);

CREATE TABLE modyn.ledger_evaluations (
    pipeline integer NOT NULL,
    trigger bigint NOT NULL,
    dataset text NOT NULL,
    "start" bigint NOT NULL,
    "end" bigint NOT NULL,
    metric text NOT NULL,
    model text NOT NULL,
    value double precision,
    count bigint NOT NULL,
    counts text NOT NULL,
    PRIMARY KEY (pipeline, trigger, dataset, "start", "end", metric),
    FOREIGN KEY (pipeline, trigger) REFERENCES modyn.ledger_trainings ON DELETE CASCADE
);

-- Seconds of wall clock; no part of what a run decided.
CREATE TABLE modyn.ledger_timings (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    trigger bigint NOT NULL,
    stage text NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (pipeline, trigger, stage)
);
