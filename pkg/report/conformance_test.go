package report_test

import _ "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
