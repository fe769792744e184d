//! The bundled harness: load, latency without coordinated omission, the limit of the disk, and the report.
