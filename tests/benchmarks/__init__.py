"""
The benchmark: `python tests/benchmarks/bench.py --help`.

    bench      the command: options, which sides, the interleaving
    servers    start and stop our own stack
    peer       start and stop `langgraph dev` from its own environment
    scenarios  what is measured, on one side, once (with runs, streams, state)
    client     the HTTP client, light enough not to be what is measured
    load       keep N operations going; count errors
    processes  CPU and memory of whole process trees, by kind of process
    goals      floors and goals, and how large a quick and a full measurement is
    report     rounds into rows, rows into the table and the JSON file

A side is a server that is measured. A round is one scenario on one side; with a peer the rounds
go A B A B, because a shared machine drifts more between minutes than between servers. Absolute
numbers guide; the ratio within one run is what can be trusted.
"""
