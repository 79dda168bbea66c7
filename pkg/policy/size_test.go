package policy_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fusegate/fusegate/pkg/policy"
)

func parsed(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMeasure(t *testing.T) {
	for name, tc := range map[string]struct {
		reason     string
		object     string
		containers int
		depth      int
	}{
		"Empty":       {reason: "nothing", object: `{}`, depth: 1},
		"Values":      {reason: "of all types", object: `{"a":"b","c":[1,-2.5,1e+30,true,null,{}],"d":{"e":[]}}`, depth: 3},
		"Pod":         {reason: "all containers count", object: `{"spec":{"containers":[{},{}],"initContainers":[{}],"ephemeralContainers":[{}]}}`, containers: 4, depth: 4},
		"PodTemplate": {reason: "a pod template's too", object: `{"template":{"spec":{"containers":[{}]}}}`, containers: 1, depth: 5},
		"Deployment":  {reason: "and a workload's", object: `{"spec":{"template":{"spec":{"containers":[{},{}]}}}}`, containers: 2, depth: 6},
		"CronJob":     {reason: "and a cron job's", object: `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{}]}}}}}}`, containers: 1, depth: 8},
		"Other":       {reason: "what is called so elsewhere does not", object: `{"status":{"containers":[1]},"spec":{"containers":"many"}}`, depth: 3},
		"Deep":        {reason: "depth is of arrays too", object: `{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, depth: 501},
	} {
		t.Run(name, func(t *testing.T) {
			got := policy.Measure(parsed(t, tc.object))
			want := policy.Size{Bytes: int64(len(tc.object)), Containers: tc.containers, Depth: tc.depth}
			// What is as long as "true" may be a byte off.
			if off := got.Bytes - want.Bytes; off < 0 || off > 1 || got.Containers != want.Containers || got.Depth != want.Depth {
				t.Errorf("%s: got %+v, want %+v", tc.reason, got, want)
			}
		})
	}
	managed := `{"metadata":{"managedFields":[{"fieldsV1":{"f:metadata":{"f:labels":{}}}}],"name":"x"}}`
	if got := policy.Measure(parsed(t, managed)).Bytes; got > int64(len(`{"metadata":{"managedFields":,"name":"x"}}`)) {
		t.Errorf("what API servers write counts: %d bytes", got)
	}
}
