package app

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleanMappings(t *testing.T) {
	const smaps = `00400000-01600000 r-xp 00000000 fe:00 11 /bin/fusegate
Rss:               27348 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
01600000-02000000 r--p 01200000 fe:00 11 /bin/fusegate
Anonymous:             0 kB
02000000-02001000 r--p 01c00000 fe:00 11 /bin/fusegate
Anonymous:             4 kB
02001000-02100000 rw-p 01c01000 fe:00 11 /bin/fusegate
Anonymous:             0 kB
02100000-02200000 r--p 00000000 fe:00 12 /lib/other/bin/fusegate
Anonymous:             0 kB
c000000000-c004000000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7ffd0000-7ffd1000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1600000}, {0x1600000, 0x2000000}}
	if diff := cmp.Diff(want, cleanMappings(smaps, "/bin/fusegate"), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("want what is neither writable nor written, of the program's file alone, -want +got:\n%s", diff)
	}
}

// TestForgetFile: the process goes on after its code was taken from it.
func TestForgetFile(t *testing.T) {
	file, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if len(cleanMappings(string(maps), file)) == 0 {
		t.Error("got no mapping of the program, want at least its code")
	}
	if err := forgetFile(); err != nil {
		t.Fatal(err)
	}
}
