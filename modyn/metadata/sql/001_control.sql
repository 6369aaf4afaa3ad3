-- What is known once per database.

-- A batch whose row is here was committed, whole.  The row is the first statement of the batch's
-- own transaction: who repeats a batch after a lost answer waits here for the first attempt, and
-- learns whether it was committed.
CREATE TABLE modyn.batches (
    id text PRIMARY KEY,
    committed timestamptz NOT NULL DEFAULT now()
);

-- One row per dataset that was published.  Keys 0 .. count-1 are all there.
CREATE TABLE modyn.datasets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid text NOT NULL UNIQUE CHECK (uuid ~ '^[0-9a-f]{32}$'),
    name text NOT NULL,
    fields text NOT NULL,                    -- the schema of a record, as JSON
    timestamp_unit text NOT NULL CHECK (timestamp_unit IN ('s', 'ms', 'us', 'ns')),
    has_labels boolean NOT NULL,
    layout text NOT NULL CHECK (layout IN ('rows', 'blocks')),
    unlogged boolean NOT NULL,
    leaf_samples bigint NOT NULL,            -- keys per leaf partition, a power of two
    count bigint NOT NULL DEFAULT 0,
    erased bigint NOT NULL DEFAULT 0,        -- of these
    events bigint NOT NULL DEFAULT 0,        -- erasures of the dataset that are applied here
    ascending boolean NOT NULL DEFAULT true, -- timestamps never fall from one key to the next
    last_timestamp bigint                    -- of key count-1
);

-- One row per pipeline, under its name.  Who holds the lease may write what belongs to it, as long
-- as the token is still the one that it was given.
CREATE TABLE modyn.pipelines (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    token bigint NOT NULL DEFAULT 0,
    holder text,
    expires timestamptz
);
