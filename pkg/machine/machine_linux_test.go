package machine

import "testing"

// TestUse reads what the kernel says while this process computes.
func TestUse(t *testing.T) {
	before, err := readUse()
	if err != nil {
		t.Fatal(err)
	}
	now := before
	for n := uint64(0); now.own < before.own+0.05; n++ {
		if n%1e6 != 0 {
			continue
		}
		if now, err = readUse(); err != nil {
			t.Fatal(err)
		}
	}
	if now.total-now.idle <= before.total-before.idle || now.total <= before.total {
		t.Errorf("this process has had %.2f s more, but the machine went from %+v to %+v", now.own-before.own, before, now)
	}
	if n := processors(); n < 1 {
		t.Errorf("processors() = %v", n)
	}
}
