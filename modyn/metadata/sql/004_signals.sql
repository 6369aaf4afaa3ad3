-- What models said of samples while they were trained.

-- One row per trigger whose training is recorded, whole.  Its rows are in the table below in the
-- transaction of this row or not at all.
CREATE TABLE modyn.signal_sets (
    pipeline integer NOT NULL REFERENCES modyn.pipelines ON DELETE CASCADE,
    trigger bigint NOT NULL CHECK (trigger >= 0),
    model text NOT NULL,                     -- content key of what the training resulted in
    dataset_uuid text NOT NULL CHECK (dataset_uuid ~ '^[0-9a-f]{32}$'),
    names text NOT NULL,                     -- the columns that are recorded: 'loss,prediction'
    classes boolean NOT NULL,                -- whether a prediction is the number of a class
    row_count bigint NOT NULL CHECK (row_count >= 0), -- less those of samples erased since
    erased bigint NOT NULL,                  -- samples of the dataset that were, when last looked at
    leaf_count integer NOT NULL,             -- the modulus of the hash
    PRIMARY KEY (pipeline, trigger)
);

-- One row per presentation: a sample in an epoch.  Pipeline 3 has signals_p3, its trigger 17
-- signals_p3_t17, and that is cut by a hash of the key into signals_p3_t17_h0 and so on.
CREATE TABLE modyn.signals (
    trigger bigint NOT NULL,                 -- the wide ones first: no room between columns
    key bigint NOT NULL,
    pipeline integer NOT NULL,
    epoch integer NOT NULL,
    loss real,                               -- of this sample alone, not times its weight
    gradient_norm real,                      -- of that loss, with respect to the model's output
    prediction real,                         -- a class, or the output where there is only one
    forgetting integer                       -- how often right and then wrong so far; 2147483647:
) PARTITION BY LIST (pipeline);              -- it never was right.  Not recorded: NULL.
