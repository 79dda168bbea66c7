package rego_test

import (
	"testing"

	"github.com/fusegate/fusegate/pkg/rego"
)

// TestMayReadObject: what may be read is what lies above or below a path that the code
// names, and everything where that is not known.
func TestMayReadObject(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want bool
	}{
		"Replicas":  {`input.review.object.spec.replicas > 3`, true},
		"Spec":      {`s := input.review.object.spec; s.replicas > 3`, true},
		"Object":    {`o := input.review.object; o.spec.replicas > 3`, true},
		"Review":    {`r := input.review; r.object.spec.replicas > 3`, true},
		"Variable":  {`f := "replicas"; input.review.object.spec[f] > 3`, true},
		"Get":       {`object.get(input.review.object, ["spec", "replicas"], 1) > 3`, true},
		"GetOfSpec": {`object.get(input.review.object.spec, "replicas", 1) > 3`, true},
		"With":      {`big with input.review.object as {"spec": {"replicas": 4}}`, true},
		"Labels":    {`not input.review.object.metadata.labels[input.parameters.label]`, false},
		"Container": {`input.review.object.spec.template.spec.containers[_].image == "x"`, false},
		"Metadata":  {`input.review.object.metadata.name == input.review.name`, false},
		"Nothing":   {`input.review.kind.kind == "Pod"`, false},
		"Old":       {`input.review.oldObject.spec.replicas > 3`, false},
	} {
		p, err := rego.New().Compile(t.Context(), template("Reads", source{rego: "package p\nbig { true }\nviolation[{\"msg\": \"x\"}] { " + tc.body + " }"}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := p.Reads().MayReadObject("spec", "replicas"); got != tc.want {
			t.Errorf("%s: %s may read the replicas: %t, want %t", name, tc.body, got, tc.want)
		}
	}
	if !(rego.Reads{Object: [][]string{{}}}).MayReadObject("a") || (rego.Reads{}).MayReadObject("a") {
		t.Error("an empty path is everything, and no path is nothing")
	}
}
