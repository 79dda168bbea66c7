package install_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/install"
)

func TestTakenBack(t *testing.T) {
	c := fresh(t)
	cfg := config(t)
	if got, err := install.TakenBack(t.Context(), c, cfg); err != nil || len(got) > 0 {
		t.Errorf("where nothing is installed: got %v and error %v", got, err)
	}
	cfg.Exempt = exempt.Options{
		Namespaces: []string{"a", "b-*"}, Users: []string{"jane"}, Groups: []string{"sre"}, ServiceAccounts: []string{"ci/deploy"},
		Controllers: []string{"cloud:a"}, Provider: "eks", OwnServiceAccounts: []string{"extra"},
	}
	if _, err := render(t, cfg).Apply(t.Context(), c, install.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := install.TakenBack(t.Context(), c, cfg); err != nil || len(got) > 0 {
		t.Errorf("with the same configuration: got %v and error %v", got, err)
	}
	less := config(t)
	less.Exempt.Namespaces = []string{"a", "c"}
	got, err := install.TakenBack(t.Context(), c, less)
	want := []string{`namespaces "b-*"`, `users "jane"`, `groups "sre"`, `serviceAccounts "ci/deploy"`, `controllers "cloud:a"`, `ownServiceAccounts "extra"`, `provider "eks"`}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v; taken back (-want +got):\n%s", err, diff)
	}
}
