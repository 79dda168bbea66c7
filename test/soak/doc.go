// Package soak holds what takes long: Fusegate under writes for minutes, while its
// processes are replaced. Its tests have the build tag soak.
package soak
