-- What policies looked at when they decided, in the order in which they did: values are JSON.
CREATE TABLE modyn.ledger_decisions (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    number bigint NOT NULL,
    position bigint NOT NULL,
    trigger bigint NOT NULL,
    timestamp bigint,
    name text NOT NULL,
    noted text NOT NULL,
    PRIMARY KEY (pipeline, number)
);
