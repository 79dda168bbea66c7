package app

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"

	"github.com/fusegate/fusegate/pkg/compiler"
)

// collectAt is how much the heap may grow, in percent of what is alive, until
// garbage is collected (GOGC). What is alive is little and changes seldom, so that
// collecting early costs next to no time; what audit and compilers let go would
// otherwise be half of the heap.
const collectAt = 50

// memoryShare is how much of a control group's memory limit the process and its
// compiler plan for together. The rest is for what neither counts. They share one
// limit, and a kernel that finds it exceeded ends both: Kubernetes sets
// memory.oom.group in containers.
const memoryShare = 0.8

// divide says how much of the memory limit of a control group is for the process's
// own heap, as a part of the limit, and how much, in bytes, for its compiler.
func divide(limit uint64) (own float64, forCompiler int64) {
	forCompiler = min(max(int64(limit/5), compiler.MinMemory), compiler.DefaultMemory)
	return max(memoryShare-float64(forCompiler)/float64(limit), memoryShare/2), forCompiler
}

// limitMemory sets GOGC, and GOMEMLIMIT to the process's part of the control
// group's memory limit, so that the collector works harder before the kernel ends
// the process. What the environment sets stays.
func limitMemory(log logr.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	limit, err := memlimit.FromCgroup()
	if err == nil {
		own, _ := divide(limit)
		_, err = memlimit.Set(memlimit.WithRatio(own))
	}
	if err != nil {
		log.V(1).Info("GOMEMLIMIT not set from the control group", "reason", err.Error())
	}
}

// compilerMemory is the limit of the process's compiler, in bytes.
func compilerMemory() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil {
		return compiler.DefaultMemory
	}
	_, forCompiler := divide(limit)
	return forCompiler
}
