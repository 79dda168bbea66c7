package machine

import (
	"fmt"

	"github.com/prometheus/procfs"
)

// readUse reads what the kernel has counted since it started, of the whole
// machine even in a container (proc(5)).
func readUse() (use, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return use{}, fmt.Errorf("opening proc: %w", err)
	}
	all, err := fs.Stat()
	if err != nil {
		return use{}, fmt.Errorf("reading the use of processors: %w", err)
	}
	self, err := fs.Self()
	if err != nil {
		return use{}, fmt.Errorf("finding this process: %w", err)
	}
	own, err := self.Stat()
	if err != nil {
		return use{}, fmt.Errorf("reading the use of this process: %w", err)
	}
	t := all.CPUTotal
	idle := t.Idle + t.Iowait
	return use{total: idle + t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal, idle: idle, own: own.CPUTime()}, nil
}

// processors is how many there are, 0 if that cannot be known.
func processors() float64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	all, err := fs.Stat()
	if err != nil {
		return 0
	}
	return float64(len(all.CPU))
}
