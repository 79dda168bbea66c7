package audit

import (
	"runtime"
	"syscall"
)

// niceness is that of threads that read what exists: a tenth of the time of
// others where they compete, all of it where they do not.
const niceness = 10

// stepBack has the calling goroutine run by a thread of its own, after others
// that want the processor: what exists can wait, requests cannot. The thread
// ends with the goroutine. Where that is not allowed it runs like others.
func stepBack() {
	runtime.LockOSThread()
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), niceness)
}
