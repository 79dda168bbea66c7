package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c Config) checkRoles() error {
	if len(c.Roles) == 0 {
		return errors.New("roles: is empty; name webhook, controller or both")
	}
	var errs []error
	for i, r := range c.Roles {
		if r != RoleWebhook && r != RoleController {
			errs = append(errs, fmt.Errorf("roles[%d]: %q: is not a role; use webhook, controller or both", i, r))
		}
	}
	return errors.Join(errs...)
}

func (c Config) checkCertificates() error {
	if c.Serves(RoleWebhook) && c.CertDir == "" {
		return errors.New("certDir: is empty; name the directory that holds tls.crt and tls.key")
	}
	if c.RotateCerts && !c.Serves(RoleController) {
		return errors.New("rotateCerts: true: needs the role controller; add it to roles, or leave rotateCerts out")
	}
	return nil
}

func (c Config) checkAddresses() error {
	var errs []error
	if _, _, err := SplitAddress(c.Listen); c.Serves(RoleWebhook) && err != nil {
		errs = append(errs, fmt.Errorf("listen: %w", err))
	}
	if _, _, err := SplitAddress(c.MetricsListen); c.MetricsListen != "0" && err != nil {
		errs = append(errs, fmt.Errorf("metricsListen: %w; 0 is for none", err))
	}
	if _, _, err := SplitAddress(c.HealthListen); c.HealthListen != "0" && err != nil {
		errs = append(errs, fmt.Errorf("healthListen: %w; 0 is for none", err))
	}
	return errors.Join(errs...)
}

// SplitAddress returns the host, which may be empty for all, and the port of an
// address to listen on.
func SplitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port: %w", address, err)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q is not a port from 1 to 65535", text)
	}
	return host, port, nil
}

// checkAPIServers refuses what no address can be, and what everybody who may
// read the ConfigMap should not see.
func (c Config) checkAPIServers() error {
	var errs []error
	for i, s := range c.APIServers {
		u, err := url.Parse(s)
		switch {
		case s == "" || strings.ContainsAny(s, " \t\r\n"):
			errs = append(errs, fmt.Errorf("apiServers[%d]: %q: is not an address; write https://host:port", i, s))
		case err == nil && u.User != nil:
			errs = append(errs, fmt.Errorf("apiServers[%d]: %q: holds credentials; leave them out, Fusegate uses those of its own", i, u.Redacted()))
		}
	}
	return errors.Join(errs...)
}

func (c Config) checkAudit() error {
	var errs []error
	if c.AuditLimit < 0 || c.AuditLimit > MaxAuditLimit {
		errs = append(errs, fmt.Errorf("auditLimit: %d: use 1 to %d; what a status lists is in etcd", c.AuditLimit, MaxAuditLimit))
	}
	if c.AuditResync < time.Second {
		errs = append(errs, fmt.Errorf("auditResync: %v: is less than a second; write a duration such as 30m or 1h", c.AuditResync))
	}
	if c.AuditWorkers < 1 {
		errs = append(errs, fmt.Errorf("auditWorkers: %d: is less than one; give how many objects audit reviews at a time", c.AuditWorkers))
	}
	if *c.CheckEvery < 0 {
		errs = append(errs, fmt.Errorf("checkEvery: %d: is negative; give one in how many reviews is checked, or 0 for none", *c.CheckEvery))
	}
	return errors.Join(errs...)
}

// checkSizes refuses bounds that would refuse what is in every cluster, and those
// beyond what the webhook can be sent.
func (c Config) checkSizes() error {
	var errs []error
	for _, s := range []struct {
		key              string
		value, low, high int32
	}{
		{"maxObjectBytes", c.MaxObjectBytes, 64 << 10, 48 << 20},
		{"maxObjectContainers", c.MaxObjectContainers, 10, 1_000_000},
		{"maxObjectDepth", c.MaxObjectDepth, 100, 10_000},
	} {
		if s.value < s.low || s.value > s.high {
			errs = append(errs, fmt.Errorf("%s: %d: use %d to %d; objects beyond it are refused where a constraint denies", s.key, s.value, s.low, s.high))
		}
	}
	return errors.Join(errs...)
}

func (c Config) checkReports() error {
	var errs []error
	for i, f := range c.Reports {
		if f != OpenReports && f != PolicyReport {
			errs = append(errs, fmt.Errorf("reports[%d]: %q: is not a format of reports; use %s, %s", i, f, OpenReports, PolicyReport))
		}
	}
	if c.ReportLimit < 0 || c.ReportLimit > MaxReportLimit {
		errs = append(errs, fmt.Errorf("reportLimit: %d: use 1 to %d; every report is an object in etcd", c.ReportLimit, MaxReportLimit))
	}
	return errors.Join(errs...)
}

func oneOf(key, value string, possible ...string) error {
	if slices.Contains(possible, value) {
		return nil
	}
	return fmt.Errorf("%s: %q: is not possible; use %s", key, value, strings.Join(possible, ", "))
}
