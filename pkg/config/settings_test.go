package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/config"
)

// TestTable checks that every field of Config is a setting, and that the table
// says of each how it is set and whether the installation has it.
func TestTable(t *testing.T) {
	var want, got []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, key)
	}
	flags := map[string]bool{}
	for _, s := range config.Settings() {
		got = append(got, s.Key)
		switch {
		case s.Flag == "" && (s.FileOnly == "" || s.Help != "" || len(s.Commands) > 0):
			t.Errorf("%s has no flag: say why in FileOnly, and nothing about the flag", s.Key)
		case s.Flag != "" && (s.FileOnly != "" || s.Help == "" || len(s.Commands) == 0):
			t.Errorf("%s has a flag: say what it does and which commands have it", s.Key)
		case s.Flag != "" && flags[s.Flag]:
			t.Errorf("--%s is the flag of two settings", s.Flag)
		case s.Flag != "" && s.PerProcess == "" && !slices.Contains(s.Commands, config.Install):
			t.Errorf("%s is in the ConfigMap, but install has no --%s for it", s.Key, s.Flag)
		case s.Flag == "" && s.PerProcess != "":
			t.Errorf("%s is each process's own, but only a file has it", s.Key)
		}
		flags[s.Flag] = true
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-fields of Config +rows of the table):\n%s", diff)
	}
}

// TestDefaultsAreValid checks that a default is in force, is possible, and stays
// what it is when it is filled in again.
func TestDefaultsAreValid(t *testing.T) {
	c := config.Default()
	c.Image, c.CertDir = image, "certs"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.ValidateProcess(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(c, c.WithDefaults()); diff != "" {
		t.Errorf("filled in twice (-once +twice):\n%s", diff)
	}
	outside := config.Config{WebhookURL: "https://192.0.2.1"}.WithDefaults()
	if outside.ServicePort != 0 {
		t.Errorf("outside the cluster: got port %d of a Service that is not there", outside.ServicePort)
	}
}
