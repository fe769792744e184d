//! Kafka's RecordBatch v2: read, check, stamp and build, over plain bytes.
