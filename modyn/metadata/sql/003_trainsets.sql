-- Trigger training sets: which samples, and with what weight, a trigger trains on.

-- One row per trigger.  Its samples are in one of the two tables below, in the transaction of this
-- row or not at all.
CREATE TABLE modyn.trainsets (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    trigger bigint NOT NULL CHECK (trigger >= 0),
    digest text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    samples bigint NOT NULL CHECK (samples >= 0),
    weighted boolean NOT NULL,
    dataset_uuid text CHECK (dataset_uuid ~ '^[0-9a-f]{32}$'), -- of the samples; in the digest
    layout text NOT NULL CHECK (layout IN ('rows', 'blocks')),
    PRIMARY KEY (pipeline, trigger)
);

-- One row per sample: pipeline 3 has trainsets_p3, its trigger 17 trainsets_p3_t17, and that is
-- cut by a hash of the key into trainsets_p3_t17_h0 and so on.
CREATE TABLE modyn.trainset_rows (
    pipeline integer NOT NULL,
    trigger bigint NOT NULL,
    key bigint NOT NULL,
    weight double precision                  -- NULL where every sample counts as 1
) PARTITION BY LIST (pipeline);

-- One row per 16,384 samples: pipeline 3 has trainset_blocks_p3, its trigger 17
-- trainset_blocks_p3_t17.
CREATE TABLE modyn.trainset_blocks (
    pipeline integer NOT NULL,
    trigger bigint NOT NULL,
    "first" bigint NOT NULL,                 -- place of the block's first sample, in key order
    count integer NOT NULL,
    keys bytea NOT NULL,                     -- 8 bytes each, little-endian, ascending
    weights bytea                            -- doubles, little-endian; NULL as above
) PARTITION BY LIST (pipeline);

-- Keys and weights are cheap to send and dear to compress.
ALTER TABLE modyn.trainset_blocks
    ALTER COLUMN keys SET STORAGE EXTERNAL,
    ALTER COLUMN weights SET STORAGE EXTERNAL;
