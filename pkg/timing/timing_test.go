package timing_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/fusegate/fusegate/pkg/timing"
)

// TestProduction checks that no interval was forgotten, and that a leader gives up
// before another takes its place.
func TestProduction(t *testing.T) {
	p := timing.Production()
	v := reflect.ValueOf(p)
	for i := range v.NumField() {
		if v.Field(i).Int() <= 0 {
			t.Errorf("%s has no value", v.Type().Field(i).Name)
		}
	}
	if p.RenewDeadline >= p.LeaseDuration || p.RetryPeriod >= p.RenewDeadline || p.PresenceRenew >= p.PresenceTimeout {
		t.Errorf("Leases run out while their holders still renew them: %+v", p)
	}
}

func TestFilled(t *testing.T) {
	want := timing.Production()
	want.Guard = time.Millisecond
	if got := (timing.Timings{Guard: time.Millisecond}).Filled(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
