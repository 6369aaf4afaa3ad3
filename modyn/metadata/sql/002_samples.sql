-- What is known of the samples of datasets, and the streams that runs follow.
--
-- samples             by LIST (dataset)
--   samples_d7        the dataset with id 7, by RANGE (key)
--     samples_d7_l0   a leaf: keys 0 .. leaf_samples-1; the next is samples_d7_l1
--
-- A leaf is created, filled and attached in one transaction, so that nobody ever sees a part of a
-- batch.  Its first rows are frozen: a transaction that reads as of an earlier moment may see them
-- already, so whoever reads takes keys below the count that modyn.datasets said first.
--
-- There is no index: a leaf is filled in the order of keys and read from front to back, and an
-- insert into the billionth row costs what the first did.
--
-- Columns with a DEFAULT in the leaf are not sent: a row of a COPY is (key, timestamp, label).
CREATE TABLE modyn.samples (
    dataset integer NOT NULL,
    key bigint NOT NULL,
    "timestamp" bigint NOT NULL,     -- in the unit of the dataset
    label bigint                     -- NULL in a dataset without labels
) PARTITION BY LIST (dataset);

-- The same, 16,384 samples to a row: columns of little-endian int64.  first is a multiple of
-- 16,384; only the last row of a dataset has fewer samples.  Erased samples have zeros in all
-- columns, and are a 1 in the bitmap: sample first + i is bit i % 8 of byte i / 8.
CREATE TABLE modyn.sample_blocks (
    dataset integer NOT NULL,
    "first" bigint NOT NULL,
    count integer NOT NULL,
    min_timestamp bigint NOT NULL,   -- of samples that are not erased; where all are, min > max
    max_timestamp bigint NOT NULL,
    keys bytea,                      -- NULL: first, first + 1, ...
    timestamps bytea NOT NULL,
    labels bytea,
    erased bytea                     -- NULL: none is
) PARTITION BY LIST (dataset);

-- Timestamps and labels of real data are cheap to send and dear to compress.
ALTER TABLE modyn.sample_blocks
    ALTER COLUMN keys SET STORAGE EXTERNAL,
    ALTER COLUMN timestamps SET STORAGE EXTERNAL,
    ALTER COLUMN labels SET STORAGE EXTERNAL;

-- One row per leaf, written by the transaction that fills it.  A leaf holds keys first ..
-- first+count-1 less those that are erased; times are of samples that are not, NULL if all are.
CREATE TABLE modyn.leaves (
    dataset integer NOT NULL REFERENCES modyn.datasets (id),
    leaf integer NOT NULL,
    "first" bigint NOT NULL,
    count bigint NOT NULL,
    erased bigint NOT NULL,
    min_timestamp bigint,
    max_timestamp bigint,
    last_timestamp bigint,           -- of the sample with the largest key
    refills integer NOT NULL DEFAULT 0, -- how often an unlogged leaf was filled again
    PRIMARY KEY (dataset, leaf)
);

-- The first key whose timestamp is below that of an earlier sample; NULL: there is none.  It may be
-- of a leaf that does not count yet.  Keys 0 .. n-1 ascend for every n <= first_late.
ALTER TABLE modyn.datasets ADD COLUMN first_late bigint;

-- The stream of a pipeline that does not follow keys from 0 on, written once when its run begins.
CREATE TABLE modyn.streams (
    pipeline integer PRIMARY KEY REFERENCES modyn.pipelines (id) ON DELETE CASCADE,
    number bigint GENERATED ALWAYS AS IDENTITY, -- of a stream that is written anew, another one
    dataset integer NOT NULL REFERENCES modyn.datasets (id),
    sort text NOT NULL CHECK (sort IN ('time', 'arrival')),
    start bigint,                    -- of timestamps; NULL: unbounded
    stop bigint,                     -- behind the last
    samples bigint NOT NULL,         -- keys below this take part
    layout text NOT NULL CHECK (layout IN ('rows', 'blocks')),
    leaf_samples bigint NOT NULL,    -- positions per leaf
    count bigint NOT NULL,           -- positions of the stream
    ascending boolean NOT NULL       -- its timestamps
);

CREATE TABLE modyn.stream_leaves (
    pipeline integer NOT NULL REFERENCES modyn.streams (pipeline) ON DELETE CASCADE,
    leaf integer NOT NULL,
    "first" bigint NOT NULL,
    count bigint NOT NULL,
    erased bigint NOT NULL,          -- since the stream was written; they keep their positions
    min_timestamp bigint,
    max_timestamp bigint,
    PRIMARY KEY (pipeline, leaf)
);

-- Shaped like samples and sample_blocks, by position.
CREATE TABLE modyn.stream_rows (
    pipeline integer NOT NULL,
    "position" bigint NOT NULL,
    key bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    label bigint
) PARTITION BY LIST (pipeline);

CREATE TABLE modyn.stream_blocks (
    pipeline integer NOT NULL,
    "first" bigint NOT NULL,         -- a position
    count integer NOT NULL,
    min_timestamp bigint NOT NULL,
    max_timestamp bigint NOT NULL,
    keys bytea NOT NULL,
    timestamps bytea NOT NULL,
    labels bytea,
    erased bytea
) PARTITION BY LIST (pipeline);

ALTER TABLE modyn.stream_blocks
    ALTER COLUMN keys SET STORAGE EXTERNAL,
    ALTER COLUMN timestamps SET STORAGE EXTERNAL,
    ALTER COLUMN labels SET STORAGE EXTERNAL;

-- Which keys stood where in stream_rows before they were erased.
CREATE TABLE modyn.stream_erased (
    pipeline integer NOT NULL REFERENCES modyn.streams (pipeline) ON DELETE CASCADE,
    "position" bigint NOT NULL,
    key bigint NOT NULL,
    PRIMARY KEY (pipeline, "position")
);
