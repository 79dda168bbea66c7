package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestReadiness(t *testing.T) {
	template, one, two := key{name: "kind"}, key{"Kind", "one"}, key{"Kind", "two"}
	all := []key{template, one, two}
	for name, tc := range map[string]struct {
		reason string
		do     func(r *Readiness)
		want   string
	}{
		"Nothing known": {
			reason: "what exists has not been listed",
			do:     func(*Readiness) {},
			want:   "listing what exists",
		},
		"Cannot list": {
			reason: "the obstacle is named",
			do:     func(r *Readiness) { r.blocked(errors.New("forbidden")) },
			want:   "listing what exists: forbidden",
		},
		"Nothing exists": {
			reason: "an empty cluster is ready at once",
			do:     func(r *Readiness) { r.blocked(errors.New("forbidden")); r.expect(nil) },
		},
		"All named": {
			reason: "it names what it waits for",
			do:     func(r *Readiness) { r.expect(all) },
			want:   "waiting for ConstraintTemplate/kind, Kind/one, Kind/two",
		},
		"Seen before and after the list": {
			reason: "ingesting does not wait for the list",
			do:     func(r *Readiness) { r.observed(template); r.observed(one); r.expect(all); r.observed(two) },
		},
		"Refused after the list": {
			reason: "the constraints of a refused template cannot be ingested",
			do:     func(r *Readiness) { r.expect(all); r.waived("kind"); r.observed(template) },
		},
		"Refused before the list": {
			reason: "nor when the list comes later than the refusal",
			do:     func(r *Readiness) { r.waived("kind"); r.observed(template); r.expect(all) },
		},
		"Another is refused": {
			reason: "the others are waited for",
			do:     func(r *Readiness) { r.waived("other"); r.observed(template); r.expect(all); r.waived("other") },
			want:   "waiting for Kind/one, Kind/two",
		},
		"Gone": {
			reason: "what no longer exists is not waited for",
			do:     func(r *Readiness) { r.expect(all); r.expect(all[:1]) },
			want:   "waiting for ConstraintTemplate/kind",
		},
		"New": {
			reason: "what did not exist at the start is not waited for",
			do:     func(r *Readiness) { r.expect(nil); r.expect(all) },
		},
		"Many": {
			reason: "the answer has a bound",
			do: func(r *Readiness) {
				var many []key
				for n := range 25 {
					many = append(many, key{name: fmt.Sprintf("t%02d", n)})
				}
				r.expect(many)
			},
			want: "waiting for ConstraintTemplate/t00, " + named(1, 20) + "and 5 more",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReadiness()
			tc.do(r)
			got := ""
			if err := r.Err(); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q: %s", got, tc.want, tc.reason)
			}
		})
	}
}

func named(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "ConstraintTemplate/t%02d, ", n)
	}
	return b.String()
}
