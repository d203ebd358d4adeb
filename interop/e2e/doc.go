// Package e2e drives the built dweb binary as people do: daemons and commands, on real veilid-core nodes of the lab.
package e2e
