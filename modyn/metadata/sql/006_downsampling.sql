-- Trainings with downsampling: how many samples went forward through the model for their score
-- alone, and how many were trained on, each as often as it came.
CREATE TABLE modyn.ledger_downsamplings (
    pipeline integer NOT NULL,
    trigger bigint NOT NULL,
    scored bigint NOT NULL,
    trained bigint NOT NULL,
    PRIMARY KEY (pipeline, trigger),
    FOREIGN KEY (pipeline, trigger) REFERENCES modyn.ledger_trainings ON DELETE CASCADE
);
