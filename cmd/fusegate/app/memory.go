package app

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
)

// collectAt is how much the heap may grow, in percent of what is alive, until
// garbage is collected (GOGC). What is alive is little and changes seldom, so that
// collecting early costs next to no time; what audit and compilers let go would
// otherwise be half of the heap.
const collectAt = 50

// limitMemory sets GOGC, and GOMEMLIMIT to nine tenths of the control group's
// memory limit, so that the collector works harder before the kernel ends the
// process. What the environment sets stays.
func limitMemory(log logr.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if _, err := memlimit.Set(); err != nil {
		log.V(1).Info("GOMEMLIMIT not set from the control group", "reason", err.Error())
	}
}
