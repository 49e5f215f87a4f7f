"""What the system remembers: tables, migrations, the queue of record, blobs, the model registry, the audit."""
