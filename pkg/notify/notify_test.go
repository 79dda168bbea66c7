package notify_test

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/notify"
)

func TestSignal(t *testing.T) {
	s := notify.New()
	isSet := func() bool {
		select {
		case <-s.C():
			return true
		default:
			return false
		}
	}
	if isSet() {
		t.Error("a new signal is set")
	}
	s.Set()
	s.Set() // does not block
	if !isSet() || isSet() {
		t.Error("a signal that was set twice does not receive once")
	}
	s.Set()
	if !isSet() {
		t.Error("a signal that is set again does not receive")
	}
}
