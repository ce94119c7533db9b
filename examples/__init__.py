"""An example service with a release process, used by the demo, the tests and the benchmarks."""
