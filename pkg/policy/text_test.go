package policy_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/policy"
	"github.com/fusegate/fusegate/pkg/printable"
)

// alphabet is what texts of the property test are made of: what takes several
// bytes, what is not printable, what is no UTF-8, and what a reader of the answer
// could take for its own lines.
var alphabet = []string{"a", "é", "漢", "\U0001F600", "\u202e", "\x1b", "\xff", "\n", "\t", " ", "\"", "and 7 more", "[c1] "}

func randomText(r *rand.Rand) string {
	length := []int{0, 3, 80, 1000, 5000}[r.IntN(5)]
	var b strings.Builder
	for b.Len() < length {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func randomResult(r *rand.Rand) policy.Result {
	var out policy.Result
	for i := range []int{1, 2, 9, 40}[r.IntN(4)] {
		name := fmt.Sprintf("c%d", i)
		if r.IntN(10) == 0 {
			name += strings.Repeat("n", 200)
		}
		c := constraint(name, []policy.Action{policy.Deny, policy.Warn}[r.IntN(2)])
		for range []int{0, 1, 5, 70}[r.IntN(4)] {
			out.Violations = append(out.Violations, violation(c, randomText(r)))
		}
		if r.IntN(3) == 0 {
			out.More = append(out.More, policy.More{Constraint: c, Count: r.IntN(100_000), AtLeast: r.IntN(2) == 0})
		}
	}
	out.Sort()
	out.Evaluated = 1
	return out
}

// TestTextBounds goes through results of all sizes and texts: the bounds hold on
// what is sent, no character is cut, and with what is counted every violation is
// there.
func TestTextBounds(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 16))
		result := randomResult(r)
		want := map[policy.Action]int{}
		for _, v := range result.Violations {
			want[v.Constraint.Action]++
		}
		for _, m := range result.More {
			want[m.Constraint.Action] += m.Count
		}
		d := policy.Decide(result)
		warned := strings.Join(d.Warnings, "")
		switch {
		case d.Allowed != (want[policy.Deny] == 0 && d.Message == ""):
			t.Errorf("seed %d: allowed %t with %d denials", seed, d.Allowed, want[policy.Deny])
		case len(d.Message) > 8<<10 || len(warned) > 4096 || len(d.Warnings) > 32:
			t.Errorf("seed %d: a message of %d bytes, %d warnings of %d bytes", seed, len(d.Message), len(d.Warnings), len(warned))
		case !utf8.ValidString(d.Message) || printable.Text(d.Message) != d.Message || printable.Line(warned) != warned:
			t.Errorf("seed %d: not printable: %q %q", seed, d.Message, d.Warnings)
		}
		for _, line := range d.Warnings {
			if len(line) > 1<<10 {
				t.Errorf("seed %d: a warning of %d bytes", seed, len(line))
			}
		}
		again := policy.Decide(result)
		if diff := cmp.Diff(d, again); diff != "" {
			t.Errorf("seed %d: not pure (-first +second):\n%s", seed, diff)
		}
	}
}

var rest = regexp.MustCompile(`^(?:\[(.*)\] )?and (at least )?([0-9,]+) more(?: of ([0-9,]+) other constraints)?$`)

// counted adds up the lines of an answer: those of violations, by constraint, and
// what the others count.
func counted(t *testing.T, lines []string) (shown map[string]int, hidden, others int) {
	t.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(strings.ReplaceAll(text, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	shown = map[string]int{}
	for _, line := range lines {
		m := rest.FindStringSubmatch(line)
		switch {
		case m == nil:
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
			shown[name]++
		case m[4] != "":
			hidden, others = hidden+number(m[3]), others+number(m[4])
		default:
			hidden += number(m[3])
		}
	}
	return shown, hidden, others
}

// TestTextCounts: what is shown and what is counted come to all there is, of every
// constraint and of all together, whatever the texts.
func TestTextCounts(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 17))
		for _, action := range []policy.Action{policy.Deny, policy.Warn} {
			var result policy.Result
			total, names := 0, map[string]bool{}
			for i := range 1 + r.IntN(60) {
				c := constraint(fmt.Sprintf("c%d", i), action)
				n := r.IntN(90)
				for j := range n {
					text := fmt.Sprintf("%05d %s", j, strings.Repeat("漢", r.IntN(900)))
					result.Violations = append(result.Violations, violation(c, text))
				}
				more := r.IntN(2) * r.IntN(5000)
				if more > 0 {
					result.More = append(result.More, policy.More{Constraint: c, Count: more})
				}
				total += n + more
				if n+more > 0 {
					names[c.Name] = true
				}
			}
			d := policy.Decide(result)
			lines := d.Warnings
			if action == policy.Deny {
				lines = strings.Split(d.Message, "\n")
			}
			if total == 0 {
				continue
			}
			shown, hidden, others := counted(t, lines)
			sum := hidden
			for _, n := range shown {
				sum += n
			}
			if sum != total || len(shown)+others != len(names) {
				t.Errorf("seed %d, %s: %d violations of %d+%d constraints, want %d of %d", seed, action, sum, len(shown), others, total, len(names))
			}
		}
	}
}

func TestTextExamples(t *testing.T) {
	many := func(c policy.Constraint, n int) (out []policy.Violation) {
		for i := range n {
			out = append(out, violation(c, fmt.Sprintf("container c%04d is privileged", i)))
		}
		return out
	}
	a, b := constraint("a", policy.Deny), constraint("b", policy.Deny)
	cases := map[string]struct {
		reason string
		in     policy.Result
		want   string // a part of the message
	}{
		"Counted": {
			reason: "what the engine counted is said", want: "[a] no\n[a] and 3,475 more",
			in: policy.Result{Violations: []policy.Violation{violation(a, "no")}, More: []policy.More{{Constraint: a, Count: 3475}}},
		},
		"CutOff": {
			reason: "a count that was cut off is a lower bound", want: "[a] no\n[a] and at least 0 more",
			in: policy.Result{Violations: []policy.Violation{violation(a, "no")}, More: []policy.More{{Constraint: a, AtLeast: true}}},
		},
		"Every": {
			reason: "every constraint is heard before one is heard twice", want: "\n[b] no\n",
			in: policy.Result{Violations: append(many(a, 3000), violation(b, "no"))},
		},
		"Long": {
			reason: "a long text is cut, and shows it", want: strings.Repeat("é", 500) + "...",
			in: policy.Result{Violations: []policy.Violation{violation(a, strings.Repeat("é", 1<<20))}},
		},
		"Room": {
			reason: "of one constraint there is 4 KiB", want: "more",
			in: policy.Result{Violations: many(a, 140)},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := policy.Decide(tc.in)
			if d.Allowed || !strings.Contains(d.Message+"\n", tc.want) {
				t.Errorf("%s: got %q, want %q in it", tc.reason, d.Message, tc.want)
			}
			if len(d.Message) > 8<<10 {
				t.Errorf("%s: %d bytes", tc.reason, len(d.Message))
			}
		})
	}
	if got := len(policy.Decide(policy.Result{Violations: many(a, 140)}).Message); got > 4<<10 {
		t.Errorf("one constraint has %d bytes, want 4 KiB at most", got)
	}
}

// TestTextTakesNoTime: a result as large as can be is worded without building it.
func TestTextTakesNoTime(t *testing.T) {
	c := constraint("c", policy.Deny)
	huge := strings.Repeat("x", 64<<20)
	result := policy.Result{Violations: make([]policy.Violation, 1000)}
	for i := range result.Violations {
		result.Violations[i] = violation(c, huge)
	}
	bytes := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			policy.Decide(result)
		}
	}).AllocedBytesPerOp()
	if bytes > 4<<20 {
		t.Errorf("%d bytes were allocated for a message of 8 KiB", bytes)
	}
}
